"""Thousands of random edits of real modules, brought home; what becomes of each.

    python tests/bench/sync/fuzz_sync.py [--edits N] [--seed N] [PROJECT ...]

PROJECT is a clone of a project that is configured for nbdev; it is copied, and the copy
is made a litml project. Without one litml's own notebooks are used. Notebooks that
litml refuses to export are left out. Each edit is one or two changes of a module such
as people, editors and formatters make, half of them mixed with changes of other cells
in the notebook. After `litml sync` the module has to say what the edited one said, and
no other cell may have changed by a byte. An edit may be refused with a reason, which is
counted, and then nothing may have changed at all.
"""

import argparse
import ast
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from litml.cells import read_directives
from litml.home import Change
from litml.notebook import Cell, parse_notebook
from litml.package import export_project
from litml.patch import ungrow
from litml.plain import sync_plain_edits
from litml.project import Project, find_project
from litml.sync import SyncReport, sync_project

OWN = Path(__file__).parents[3]
MARKER = re.compile(r"(?m)^# %% ([\w-]+)$")


# Looking at files --------------------------------------------------------------------


def cells_of(raw: bytes) -> tuple[dict[str, str], str]:
    """Return the text of each cell in a notebook's file, and the text around them.

    A cell without an id has one that is made from what it says, as sync sees it.
    """
    text = raw.decode("utf-8-sig")
    names = iter([cell.id for cell in parse_notebook(raw, "notebook").cells])
    decoder, gap, texts = json.JSONDecoder(), re.compile(r"[\s,]*"), {}
    at = start = text.index("[", text.index('"cells"')) + 1
    while text[(at := gap.match(text, at).end())] != "]":
        _, end = decoder.raw_decode(text, at)
        texts[next(names)] = text[at:end]
        at = end
    return texts, text[:start] + text[at:]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What has to be kept of a module: the lines of its code, and its syntax tree."""

    lines: tuple[str, ...]
    tree: str


def meaning(module: str) -> Meaning:
    """Return what a module says; markers, headings, blank lines and `__all__` aside."""
    text = ungrow(module).text
    tree = ast.parse(text)
    lines = text.split("\n")
    kept = []
    docstring = " ".join((ast.get_docstring(tree) or "").split())
    for i, node in enumerate(tree.body):
        target = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
        if target == "__all__" or (i == 0 and docstring):
            for k in range(node.lineno - 1, node.end_lineno or 0):
                lines[k] = ""
        else:
            kept.append(ast.dump(node))
    derived = re.compile(r"# %%|# #{2,6} |# Exported from ")
    code = [one.rstrip() for one in lines if one.strip() and not derived.match(one)]
    return Meaning(tuple(code), "\n".join([docstring, *kept]))


def parts_of(module: str) -> dict[str, str]:
    """Return the code under each marker; one inside a statement is no marker."""
    lines = ungrow(module).text.split("\n")
    inside: set[int] = set()
    for node in ast.parse("\n".join(lines)).body:
        first = min(
            [node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]
        )
        inside.update(range(first - 1, node.end_lineno or 0))
    parts: dict[str, list[str]] = {"": []}
    name = ""
    for i, line in enumerate(lines):
        match = MARKER.fullmatch(line) if i not in inside else None
        name = match[1] if match else name
        parts.setdefault(name, []).append("" if match else line)
    ends = re.compile(r"\s*(?:# #{2,6} .*\n)*\Z")
    return {
        one: ends.sub("", "\n".join(part)).strip("\n") for one, part in parts.items()
    }


def parses(text: str) -> bool:
    """Is it Python?"""
    try:
        compile(text, "module", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def write(path: Path, data: bytes) -> None:
    """Write a file as if a moment had passed since, as it has when people do."""
    path.write_bytes(data)
    now = time.time_ns() - 200_000_000
    os.utime(path, ns=(now, now))


# Edits of a module -------------------------------------------------------------------

NEW_LINES = ["pass", "x_new = 1", "# a note", "print('é', \"'\")", "assert True, 'why'"]


@dataclass
class Text:
    """A module in the hands of somebody who edits it."""

    text: str
    rng: random.Random
    count: int = 0

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def nodes(self) -> list[ast.stmt]:
        """Return the top-level statements less docstring, imports and `__all__`."""
        found = []
        for node in ast.parse(self.text).body:
            text = ast.unparse(node)
            skipped = ast.Import | ast.ImportFrom | ast.Expr
            is_frame = "__all__" in text[:9] or "TYPE_CHECKING" in text[:20]
            if not isinstance(node, skipped) and not is_frame:
                found.append(node)
        return found

    def functions(self) -> list[ast.stmt]:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return [node for node in self.nodes() if isinstance(node, kinds)]

    def pick(self, items: Iterable) -> object:
        items = list(items)
        return self.rng.choice(items) if items else None

    def name(self) -> str:
        self.count += 1
        return f"made_{self.rng.randrange(10**6)}_{self.count}"

    def span(self, node: ast.stmt) -> tuple[int, int]:
        """Return the lines of a statement, from 0, decorators included."""
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)])
        return first - 1, node.end_lineno or node.lineno

    def joined(self, lines: list[str]) -> str:
        return "\n".join(lines)


Edit = Callable[[Text], str | None]


def insert_line(it: Text) -> str | None:
    """Put a statement or a comment into a function."""
    node = it.pick(it.functions())
    inner = (
        it.pick(one for one in ast.walk(node) if isinstance(one, ast.stmt))
        if node
        else None
    )
    if inner is None or inner is node:
        return None
    lines = it.lines
    indent = " " * inner.col_offset
    lines.insert(it.span(inner)[0], indent + it.rng.choice(NEW_LINES))
    return it.joined(lines)


def change_word(it: Text) -> str | None:
    """Change a number, a string, a comment or a local name."""
    node = it.pick(it.nodes())
    if node is None:
        return None
    first, last = it.span(node)
    lines = it.lines
    k = it.rng.randrange(first, last)
    words = list(re.finditer(r"\b\d+\b|\b[a-z_]\w*\b", lines[k]))
    word = it.pick(words)
    if word is None:
        return None
    new = "7" if word[0].isdigit() else f"{word[0]}_x"
    lines[k] = lines[k][: word.start()] + new + lines[k][word.end() :]
    return it.joined(lines)


def append_comment(it: Text) -> str | None:
    """Put a comment at the end of a line."""
    node = it.pick(it.nodes())
    lines = it.lines
    if node is None:
        return None
    k = it.rng.randrange(*it.span(node))
    lines[k] += "  # noqa: new"
    return it.joined(lines)


def delete_lines(it: Text) -> str | None:
    """Delete a line or two within a statement."""
    node = it.pick(it.nodes())
    if node is None:
        return None
    first, last = it.span(node)
    lines = it.lines
    k = it.rng.randrange(first, last)
    del lines[k : k + it.rng.randint(1, 2)]
    return it.joined(lines)


def delete_statement(it: Text) -> str | None:
    """Delete a definition, but not the marker above it."""
    node = it.pick(it.nodes())
    if node is None:
        return None
    first, last = it.span(node)
    lines = it.lines
    del lines[first:last]
    return it.joined(lines)


def delete_chunk(it: Text) -> str | None:
    """Delete a marker and all below it."""
    chunks = it.text.split("\n# %% ")
    if len(chunks) < 2:
        return None
    del chunks[it.rng.randrange(1, len(chunks))]
    return "\n# %% ".join(chunks).rstrip("\n") + "\n"


def rename(it: Text) -> str | None:
    """Rename a definition everywhere in the module, as a refactoring tool does."""
    node = it.pick(it.functions())
    if node is None:
        return None
    new, lines = it.name(), it.lines
    tokens = tokenize.generate_tokens(io.StringIO(it.text).readline)
    for token in reversed(list(tokens)):
        is_listed = token.type == tokenize.STRING and token.string[1:-1] == node.name
        if token.string == node.name or (is_listed and token.start[0] < 60):
            (row, start), (_, end) = token.start, token.end
            text = lines[row - 1]
            said = token.string.replace(node.name, new)
            lines[row - 1] = text[:start] + said + text[end:]
    return it.joined(lines)


def move_chunk(it: Text) -> str | None:
    """Move a marker and all below it."""
    chunks = it.text.rstrip("\n").split("\n# %% ")
    if len(chunks) < 3:
        return None
    chunk = chunks.pop(it.rng.randrange(1, len(chunks))).rstrip("\n") + "\n\n"
    chunks.insert(it.rng.randrange(1, len(chunks) + 1), chunk)
    chunks = [one if one.endswith("\n") else one + "\n\n" for one in chunks]
    return "\n# %% ".join(chunks).rstrip("\n") + "\n"


def move_definition(it: Text) -> str | None:
    """Move a definition, and not its marker, to the end of another chunk."""
    node = it.pick(it.functions())
    if node is None:
        return None
    lines = it.lines
    first, last = it.span(node)
    block = lines[first:last]
    if it.rng.random() < 0.5 and first and lines[first - 1].startswith("# %% "):
        first -= 1
    del lines[first:last]
    places = [i for i, line in enumerate(lines) if line.startswith("# %% ")]
    at = it.pick([*places[1:], len(lines)])
    while at and not lines[at - 1].strip():
        at -= 1
    lines[at:at] = ["", "", *block, "", ""]
    return it.joined(lines)


def swap_neighbours(it: Text) -> str | None:
    """Swap two statements that stand one below the other."""
    nodes = it.nodes()
    if len(nodes) < 2:
        return None
    k = it.rng.randrange(len(nodes) - 1)
    (a, b), (c, d) = it.span(nodes[k]), it.span(nodes[k + 1])
    lines = it.lines
    if b > c:
        return None
    return it.joined([*lines[:a], *lines[c:d], *lines[b:c], *lines[a:b], *lines[d:]])


def run_ruff(it: Text) -> str | None:
    """Run a formatter over the module."""
    length = it.rng.choice(["80", "88", "120"])
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--isolated",
        "--line-length",
        length,
        "-",
    ]
    done = subprocess.run(command, input=it.text, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def new_function(it: Text) -> str | None:
    """Write a new function below another one, with what may stand above it."""
    node = it.pick(it.functions())
    if node is None:
        return None
    name = it.name()
    head = it.rng.choice([[], ["# why it is here"], ["@staticmethod"]])
    head = it.rng.choice([head, head, [f"# %% {name.replace('_', '-')}", *head]])
    what = [f"def {name}(a, b=1):", '    """Do it."""', "", "    return a + b"]
    what = it.rng.choice([what, what, [f"{name} = 3"], [f"class {name}: ..."]])
    lines = it.lines
    at = it.pick([it.span(node)[1], len(lines)])
    lines[at:at] = ["", "", *head, *what, ""]
    if it.rng.random() < 0.3:
        listed = next((i for i, one in enumerate(lines) if one == "__all__ = ["), None)
        if listed is not None:
            lines.insert(listed + 1, f'    "{name}",')
    return it.joined(lines)


def new_import(it: Text) -> str | None:
    """Add, change or delete an import."""
    lines = it.lines
    found = [i for i, one in enumerate(lines) if re.match(r"(import|from) ", one)]
    at = it.pick(found)
    if at is None:
        at = next((i for i, one in enumerate(lines) if one.startswith("__all__")), None)
        if at is None:
            return None
    what = it.rng.choice(["import wave", "from wave import open as open_wave"])
    if it.rng.random() < 0.7:
        lines.insert(at + it.rng.randint(0, 1), what)
    elif it.rng.random() < 0.5:
        del lines[at]
    else:
        lines[at] = what
    return it.joined(lines)


def spoil_marker(it: Text) -> str | None:
    """Lose a marker, mistype it, or put one where none was."""
    lines = it.lines
    found = [i for i, one in enumerate(lines) if MARKER.fullmatch(one)]
    at = it.pick(found)
    if at is None:
        return None
    what = it.rng.randrange(3)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines[at] += "x"
    else:
        node = it.pick(it.nodes())
        lines.insert(it.span(node)[0], f"# %% {it.name()}")
    return it.joined(lines)


def copy_chunk(it: Text) -> str | None:
    """Copy a marker with its code, and give the copy's definition another name."""
    found = list(MARKER.finditer(it.text))
    match = it.pick(found)
    if match is None:
        return None
    stops = [*(one.start() for one in found), len(it.text)]
    stop = min(one for one in stops if one > match.start())
    chunk = it.text[match.start() : stop]
    names = re.findall(r"(?m)^(?:def|class) (\w+)", chunk)
    if not names or re.search(r"(?m)^\w+ *[=:]", chunk):
        return None
    for name in names:
        chunk = re.sub(rf"\b{name}\b", it.name(), chunk)
    return (
        it.text[:stop].rstrip("\n")
        + "\n\n\n"
        + chunk.rstrip("\n")
        + "\n\n\n"
        + it.text[stop:]
    )


def comment_out(it: Text) -> str | None:
    """Turn a definition into comments."""
    node = it.pick(it.functions())
    if node is None:
        return None
    first, last = it.span(node)
    lines = it.lines
    lines[first:last] = [f"# {one}".rstrip() for one in lines[first:last]]
    return it.joined(lines)


def blank_lines(it: Text) -> str | None:
    """Add and take away blank lines between statements, and blanks at line ends."""
    lines = it.lines
    for node in reversed(it.nodes()):
        at = it.span(node)[0]
        if it.rng.random() < 0.3:
            lines.insert(at, "")
        elif at and not lines[at - 1] and it.rng.random() < 0.3:
            del lines[at - 1]
    return it.joined(lines)


def odd_string(it: Text) -> str | None:
    """Put a string that looks like markers and merges into a function."""
    node = it.pick(one for one in it.functions() if not isinstance(one, ast.ClassDef))
    if node is None:
        return None
    inner = [
        "    text = '''",
        "# %% other",
        "# %% Two words",
        "#| export",
        "=======",
        "",
        "",
        "'''",
    ]
    lines = it.lines
    at = node.body[0].end_lineno or 0
    if lines[node.body[0].lineno - 1][:4] != "    " or node.body[0].col_offset != 4:
        return None
    lines[at:at] = inner
    return it.joined(lines)


def edit_docstring(it: Text) -> str | None:
    """Change the first line of the module's docstring."""
    tree = ast.parse(it.text)
    if not ast.get_docstring(tree):
        return None
    lines = it.lines
    k = tree.body[0].lineno - 1
    lines[k] = re.sub(
        r"\b([A-Za-z]+)\b", r"\1ly", lines[k].replace('r"""', '"""'), count=1
    )
    return it.joined(lines)


EDITS: dict[str, Edit] = {
    "insert": insert_line,
    "change": change_word,
    "comment": append_comment,
    "delete lines": delete_lines,
    "delete statement": delete_statement,
    "delete chunk": delete_chunk,
    "rename": rename,
    "move chunk": move_chunk,
    "move definition": move_definition,
    "swap": swap_neighbours,
    "ruff format": run_ruff,
    "new function": new_function,
    "imports": new_import,
    "markers": spoil_marker,
    "copy chunk": copy_chunk,
    "comment out": comment_out,
    "blank lines": blank_lines,
    "odd string": odd_string,
    "docstring": edit_docstring,
}


def edit_module(text: str, rng: random.Random, kinds: list[str]) -> str | None:
    """Return a module after some edits, or None if one of them makes no sense there."""
    it = Text(text, rng)
    for kind in kinds:
        try:
            edited = EDITS[kind](it)
        except (tokenize.TokenError, IndexError, ValueError):
            return None
        if edited is None or edited == it.text or not parses(edited):
            return None
        it.text = edited
    return it.text


# Edits of a notebook -----------------------------------------------------------------


def edit_notebook(
    raw: bytes, free: set[str], rng: random.Random
) -> tuple[bytes, set[str]]:
    """Return a notebook with some cells changed, new, moved or gone, and their ids.

    `free` are the ids of exported cells that may be touched; all others may be, too.
    """
    changed: set[str] = set()
    notebook = parse_notebook(raw, "edited")
    exported = exported_ids(raw)
    for _ in range(rng.randint(1, 3)):
        cells = [
            cell
            for cell in notebook.cells
            if cell.id in free or not (cell.id in exported or is_frame(cell))
        ]
        if not cells:
            break
        cell, kind = rng.choice(cells), rng.random()
        at = notebook.cells.index(cell)
        changed.add(cell.id)
        if kind < 0.3:
            notebook.cells.insert(at + 1, make_cell(rng, "id" in cell.data))
        elif kind < 0.4:
            del notebook.cells[at]
        elif kind < 0.5:
            del notebook.cells[at]
            places = [i for i, c in enumerate(notebook.cells) if not is_frame(c)]
            notebook.cells.insert(rng.choice([*places, len(notebook.cells)]), cell)
        elif cell.kind == "code":
            cell.source = f"{cell.source.rstrip()}\n# note {rng.randrange(99)}"
        else:
            cell.source = f"{cell.source.rstrip()}\n\nMore is said here."
    return notebook.to_bytes(), changed


def make_cell(rng: random.Random, has_id: bool) -> Cell:
    """Return a new code cell, an example or an exported function."""
    number = rng.randrange(10**6)
    export = f"#| export\ndef noted_{number}():\n    return {number}"
    data = {
        "cell_type": "code",
        "execution_count": None,
        "id": f"n{number}",
        "metadata": {},
        "outputs": [],
        "source": rng.choice(["1 + 1", export]).splitlines(True),
    }
    if not has_id:
        del data["id"]
    return Cell(data, f"n{number}")


def exported_ids(raw: bytes) -> set[str]:
    """Return the ids of the cells that are exported."""
    notebook = parse_notebook(raw, "notebook")
    said = read_directives(notebook, strict=False)
    words = {"export", "exporti", "exports"}
    pairs = zip(notebook.cells, said, strict=True)
    return {cell.id for cell, one in pairs if words & one.keys()}


def is_frame(cell: object) -> bool:
    """Does the cell say something about its notebook as a whole?"""
    return cell.source.startswith("# ") or "default_exp" in cell.source


# One edit, and what becomes of it ----------------------------------------------------


@dataclass
class Table:
    """What became of the edits, by kind."""

    tried: Counter = field(default_factory=Counter)
    carried: Counter = field(default_factory=Counter)
    mixed: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)
    plain: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """A litml project, the files it had, and what is done to it."""

    project: Project
    files: dict[Path, bytes]
    pairs: list[tuple[Path, list[Path]]]

    def look(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.files}

    def reset(self) -> None:
        for path, data in self.files.items():
            if path.read_bytes() != data:
                write(path, data)
        report = export_project(self.project)
        assert not report.problems, report.problems

    def module_meaning(self, module: Path) -> Meaning:
        return meaning(module.read_text("utf-8"))


def sync_as_command(project: Project, table: Table) -> SyncReport:
    """Sync as `litml sync` does: plain edits by the short way, if all are plain."""
    cells = sync_plain_edits(str(project.root))
    if cells is None:
        return sync_project(project)
    table.plain += 1
    return SyncReport(tuple(Change(at, "updated") for at in cells))


def try_edit(
    trial: Trial, rng: random.Random, table: Table, kinds: list[str], mixed: bool
) -> None:
    """Make one edit, sync, and check what came of it."""
    module, notebooks = rng.choice(trial.pairs)
    before = trial.look()
    text = module.read_bytes().decode()
    edited = edit_module(text, rng, kinds)
    if edited is None or edited == text:
        return
    notebook = rng.choice(notebooks)
    old, new = parts_of(text), parts_of(edited)
    same = same_parts(old, new)
    if mixed:
        raw, _ = edit_notebook(before[notebook], same - {""}, rng)
        write(notebook, raw)
    here = trial.look()
    ours = export_text(trial, module) if mixed else text
    if ours is None:
        trial.reset()
        return
    write(module, edited.encode())
    here[module] = edited.encode()
    kind = "+".join(kinds)
    table.tried[kind] += 1
    report = sync_as_command(trial.project, table)
    fault = judge(trial, report, here, module, same, (text, ours, edited), mixed)
    if report.problems or report.conflicts:
        table.refused[kind] += 1
        for problem in report.problems:
            table.reasons[f"{re.sub('`[^`]*`', '`…`', problem.message)} ({kind})"] += 1
        for _, clash in report.conflicts:
            table.reasons[f"conflict: {clash.reason} ({kind})"] += 1
        said = [*map(str, report.problems), *(c.reason for _, c in report.conflicts)]
        keep_fault(table, trial, here, before, module, "\n".join(said))
        if fault is None:
            write(module, before[module])
            write(notebook, before[notebook])
    elif mixed:
        table.mixed[kind] += 1
    else:
        table.carried[kind] += 1
    if fault:
        table.faults.append(
            f"{kind}{' mixed' if mixed else ''}: {module.name}: {fault}"
        )
        keep_fault(table, trial, here, before, module, fault)
        trial.reset()


KEEP: Path | None = None


def keep_fault(
    table: Table, trial: Trial, here: dict, before: dict, module: Path, fault: str
) -> None:
    """Leave the files of a fault in a folder, if one is given."""
    if KEEP is None:
        return
    KEEP.mkdir(exist_ok=True)
    folder = KEEP / str(len(list(KEEP.glob("*"))))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fault.txt").write_text(fault)
    (folder / "before.py").write_bytes(before[module])
    (folder / "edited.py").write_bytes(here[module])
    (folder / "after.py").write_bytes(module.read_bytes())
    for path, data in here.items():
        if path.suffix == ".ipynb" and path.read_bytes() != data:
            (folder / f"before_{path.name}").write_bytes(data)
            (folder / f"after_{path.name}").write_bytes(path.read_bytes())


def same_parts(old: dict[str, str], new: dict[str, str]) -> set[str]:
    """Return the parts that an edit left alone.

    What is commented out moves to the cell above, or to the first one below.
    """
    same = {name for name in old.keys() & new.keys() if old[name] == new[name]}
    names = [name for name, text in new.items() if text]
    is_code = [bool(name) and has_code(new[name]) for name in names]
    for i, name in enumerate(names):
        if name and not is_code[i]:
            above = [k for k in range(i) if is_code[k]]
            below = [k for k in range(i, len(names)) if is_code[k]]
            same -= {names[k] for k in [*above[-1:], *below[:1]]}
    return same


def has_code(text: str) -> bool:
    """Is there anything but comments?"""
    return any(line[:1] not in ("", "#") for line in text.split("\n"))


def export_text(trial: Trial, module: Path) -> str | None:
    """Return what the notebooks as they are export to, or None if they do not."""
    aside = trial.project.root / "aside"
    if export_project(trial.project, target=aside).problems:
        return None
    return (aside / module.relative_to(trial.project.package_dir)).read_text("utf-8")


def judge(
    trial: Trial,
    report: SyncReport,
    here: dict[Path, bytes],
    module: Path,
    same: set[str],
    texts: tuple[str, str, str],
    mixed: bool,
) -> str | None:
    """Return what is wrong with the outcome of a sync, or None."""
    after = trial.look()
    if report.problems or report.conflicts:
        return None if after == here else "something was written along with a refusal"
    base, ours, edited = (meaning(one) for one in texts)
    found = trial.module_meaning(module)
    if not mixed:
        if found.lines != edited.lines:
            lost = Counter(edited.lines) - Counter(found.lines)
            more = Counter(found.lines) - Counter(edited.lines)
            return f"lines: lost {list(lost)[:3]}, more {list(more)[:3]}"
        if found.tree != edited.tree:
            return "the syntax tree is another"
    else:
        wanted = Counter(ours.lines) + Counter(edited.lines)
        wanted.subtract(base.lines)
        if +wanted != Counter(found.lines):
            lost, more = +wanted - Counter(found.lines), Counter(found.lines) - +wanted
            return f"lines of both: lost {list(lost)[:3]}, more {list(more)[:3]}"
    fault = judge_cells(here, after, same)
    if fault:
        return fault
    again = sync_project(trial.project)
    if again != SyncReport() or trial.look() != after:
        return f"the second sync was not idle: {again}"
    left = export_project(trial.project, check=True)
    if left.written or left.problems:
        return f"the export was not idle: {left}"
    return None


def judge_cells(
    here: dict[Path, bytes], after: dict[Path, bytes], same: set[str]
) -> str | None:
    """Return which cell changed although its code did not, or None."""
    for path, data in here.items():
        if path.suffix != ".ipynb" or data == after[path]:
            continue
        before, frame = cells_of(data)
        now, frame_now = cells_of(after[path])
        if frame != frame_now:
            return "the text around the cells changed"
        exported = exported_ids(data)
        sources = {name: "".join(json.loads(before[name])["source"]) for name in before}
        titles = {name for name in before if sources[name].startswith("# ")}
        examples = [name for name in before if name not in exported | titles]
        if [name for name in now if name in examples] != examples:
            return "cells that are not exported changed their order"
        for name, text in before.items():
            is_free = name not in exported | titles
            if (is_free or name in same) and now.get(name) != text:
                return f"cell {name} changed: {now.get(name, 'it is gone')[:300]}"
    return None


# Projects ----------------------------------------------------------------------------


def make_trial(source: Path, scratch: Path) -> Trial:
    """Copy a project and make it litml's; leave out notebooks that are refused."""
    copy = scratch / source.resolve().name
    ignore = shutil.ignore_patterns(".git", "node_modules")
    shutil.copytree(source, copy, symlinks=True, ignore=ignore)
    config = find_project(copy).config
    excluded: list[str] = []
    while True:
        toml = f'[tool.litml]\nnotebooks = "{config.notebooks}"\npackage = "fuzzed"\n'
        (copy / "pyproject.toml").write_text(
            f"{toml}exclude = {json.dumps(excluded)}\n"
        )
        (copy / "settings.ini").unlink(missing_ok=True)
        shutil.rmtree(copy / ".litml", ignore_errors=True)
        shutil.rmtree(copy / "fuzzed", ignore_errors=True)
        project = find_project(copy)
        report = export_project(project)
        if not report.problems:
            break
        for error in report.problems:
            path = copy / error.at.notebook
            name = path.relative_to(project.notebooks_dir).as_posix()
            assert name not in excluded, error
            excluded.append(name)
    return Trial(project, *read_pairs(project))


def read_pairs(
    project: Project,
) -> tuple[dict[Path, bytes], list[tuple[Path, list[Path]]]]:
    """Return the files of a project, and each module with its notebooks."""
    files: dict[Path, bytes] = {}
    pairs = []
    for module in sorted(project.package_dir.rglob("*.py")):
        text = module.read_text("utf-8")
        header = re.match(r"# Exported from (.+?)\. Edit", text)
        if header:
            notebooks = [project.root / one for one in header[1].split(", ")]
            pairs.append((module, notebooks))
            for path in [module, *notebooks]:
                files[path] = path.read_bytes()
    return files, pairs


def fuzz(trial: Trial, count: int, seed: int, table: Table) -> None:
    """Make `count` edits, each on top of the last few."""
    rng = random.Random(seed)
    done, target = sum(table.tried.values()), sum(table.tried.values()) + count
    while done < target:
        kinds = rng.choices(list(EDITS), k=rng.choice([1, 1, 2]))
        try_edit(trial, rng, table, kinds, mixed=rng.random() < 0.5)
        if sum(table.tried.values()) % 5 == 0:
            trial.reset()
        done = sum(table.tried.values())


def show(name: str, trial: Trial, table: Table) -> None:
    """Print one line for a project."""
    tried, refused = sum(table.tried.values()), sum(table.refused.values())
    carried, mixed = sum(table.carried.values()), sum(table.mixed.values())
    print(
        f"{name:<22}{len(trial.pairs):>8}{tried:>8}{carried:>9}{table.plain:>8}"
        f"{mixed:>8}{refused:>9}{len(table.faults):>8}",
        flush=True,
    )


def main() -> None:
    """Fuzz and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("projects", nargs="*", type=Path, metavar="PROJECT")
    parser.add_argument("--edits", type=int, default=2000, help="of all projects")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="leave the files of faults here")
    arguments = parser.parse_args()
    global KEEP
    KEEP = arguments.keep
    sources = arguments.projects or [OWN]
    each = -(-arguments.edits // len(sources))
    print(
        f"{'':<22}{'modules':>8}{'edits':>8}{'carried':>9}{'plain':>8}{'mixed':>8}{'refused':>9}{'faults':>8}"
    )
    reasons: Counter = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="litml-fuzz-") as folder:
        for number, source in enumerate(sources):
            table = Table()
            trial = make_trial(source, Path(folder) / str(number))
            fuzz(trial, each, arguments.seed + number, table)
            show(source.resolve().name, trial, table)
            reasons += table.reasons
            faults += table.faults
    print("\nrefused, and why")
    for reason, count in reasons.most_common():
        print(f"{count:>6}  {reason}")
    for fault in faults:
        print(f"fault: {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
