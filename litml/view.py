# Exported from nbs/05e_view.ipynb. Edit either side, then run `litml sync`.
"""Write a notebook as plain text, and read that text again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from litml.notebook import Cell, LitmlError, Location, Notebook

__all__ = [
    "LensError",
    "write_cells",
    "make_token",
    "show",
    "HELP",
    "Section",
    "KINDS",
    "read_marker",
    "split_view",
    "View",
    "read_view",
]


# %% LensError
class LensError(LitmlError):
    """A view, or an edit of a cell, that cannot be taken into the notebook."""


# ## Lines
# %% escape
ODD = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"


def escape(line: str) -> str:
    """Return a line of a source in a form that nothing in a view can look like."""
    text = re.sub(rf"\\|{ODD}", lambda found: spell(found[0]), line)
    if text.endswith((" ", "\t")):  # editors remove it
        text = text[:-1] + spell(text[-1])
    return f"#\\ {text}" if text else "#\\"


def spell(character: str) -> str:
    """Return the escape of one character."""
    return "\\\\" if character == "\\" else f"\\u{ord(character):04x}"


def unescape(line: str) -> str:
    """Return the line of a source that an escaped line stands for."""
    text = line[2:].removeprefix(" ")
    known = r"\\(?:(\\)|u([0-9a-f]{4}))"
    return re.sub(known, lambda found: found[1] or chr(int(found[2], 16)), text)


# %% write_lines
MARKER = re.compile(r"#[ \t]*%%(?:[ \t]+(.*))?$")
RESERVED = re.compile(rf"{MARKER.pattern}|#>|#\\|.*{ODD}")


def write_lines(source: str, kind: str) -> list[str]:
    """Return the lines of a view for the source of a cell of some kind."""
    lines = source.split("\n") if source else []
    if kind != "code":
        return [write_prose(line) for line in lines]
    full = [i for i, line in enumerate(lines) if line.strip()] or [len(lines)]
    return [
        escape(line) if RESERVED.match(line) or not full[0] <= i <= full[-1] else line
        for i, line in enumerate(lines)
    ]


def write_prose(line: str) -> str:
    """Return a line of text as a comment."""
    shown = f"# {line}" if line else "#"
    return escape(line) if MARKER.match(shown) or re.search(ODD, line) else shown


# %% read_lines
def read_lines(lines: Sequence[str], kind: str, at: Location) -> str:
    """Return the source that lines of a view stand for; raises `LensError`."""
    found = []
    for number, line in enumerate(lines, start=1):
        if line.startswith("#\\"):
            found.append(unescape(line))
        elif kind == "code":
            found.append(line)
        elif line.startswith("# ") or line.strip() in ("", "#"):
            found.append(line[2:])
        else:
            here = replace(at, line=number)
            hint = "begin it with `# `, or make the cell one of code: `# %% id`"
            raise LensError(
                f"not a line of a {kind} cell: `{line}`", at=here, hint=hint
            )
    return "\n".join(found)


def trim(lines: Sequence[str]) -> list[str]:
    """Return the lines without outputs and without blank lines at the edges."""
    kept = [line for line in lines if not line.startswith("#>")]
    full = [i for i, line in enumerate(kept) if line.strip()]
    return kept[full[0] : full[-1] + 1] if full else []


# ## Outputs
# %% write_outputs
def write_outputs(cell: Cell, limit: int) -> list[str]:
    """Return the lines that show the outputs of a cell, cut to `limit` characters."""
    text = "\n".join(filter(None, map(describe_output, cell.outputs))) if limit else ""
    if not text:
        return []
    shown = text[:limit].split("\n")
    if len(text) > limit:
        shown[-1] += f" … ({len(text) - limit} characters more)"
    about = cell.metadata.get("litml")
    if isinstance(about, dict) and about.get("stale"):
        shown.insert(0, "(of an earlier version of this cell)")
    return [
        f"#> {re.sub(ODD, lambda odd: spell(odd[0]), line)}".rstrip() for line in shown
    ]


def describe_output(output: dict[str, Any]) -> str:
    """Return the text that stands for one output."""
    if "text" in output:
        return plain(output["text"])
    if output.get("output_type") == "error":
        return plain(f"{output.get('ename')}: {output.get('evalue')}")
    data = output.get("data")
    data = data if isinstance(data, dict) else {}
    images = [kind for kind in data if kind.startswith("image/")]
    if "text/plain" in data and not images:
        return plain(data["text/plain"])
    return "\n".join(f"<{kind}, {measure(data[kind])}>" for kind in images or data)


def plain(text: object) -> str:
    """Return a text or a list of lines as one text without colours."""
    joined = "".join(map(str, text)) if isinstance(text, list) else str(text)
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", joined).rstrip()


def measure(value: object) -> str:
    """Return the size of what an output holds, roughly as it is in its own format."""
    text = plain(value)
    size = len(text) if text.startswith(("<", "{")) else len(text) * 3 // 4
    return f"{size} bytes" if size < 10_000 else f"{size // 1000} kB"


# ## Show
# %% write_cells
def write_cells(notebook: Notebook, outputs: int = 0) -> str:
    """Return the sections of a view, each followed by a blank line."""
    sections = []
    for cell in notebook.cells:
        kind = "" if cell.kind == "code" else f"[{cell.kind}] "
        lines = write_lines(cell.source, cell.kind)
        shown = write_outputs(cell, outputs)
        marker = f"# %% {kind}{escape(cell.id)[3:]}"
        sections.append("\n".join([marker, *lines, *shown, "\n"]))
    return "".join(sections)


def make_token(cells: str) -> str:
    """Return the token for the text of the sections without outputs."""
    from hashlib import blake2b

    return blake2b(cells.encode(), digest_size=8).hexdigest()


# %% show
def show(notebook: Notebook, outputs: int = 300) -> str:
    """Return a notebook as text, with up to `outputs` characters of each cell's."""
    name = escape(notebook.name)[3:]
    token = make_token(write_cells(notebook))
    body = write_cells(notebook, outputs)
    return f"# notebook {name} @{token}\n{HELP}\n\n{body}# %% [end]\n"


HELP = (
    "#> Edit the cells and give this text to `litml apply`."
    " It ignores lines like this one."
)


# ## Taking a view apart
# %% Section
@dataclass(frozen=True, slots=True)
class Section:
    """What a view shows of one cell: its lines as they stand there, trimmed.

    The id is empty where the marker has none. What stands above the first marker is
    a section of kind `above`.
    """

    id: str
    kind: str
    lines: tuple[str, ...]


KINDS = {"code": "code", "markdown": "markdown", "md": "markdown", "raw": "raw"}


def read_marker(text: str, at: Location) -> tuple[str, str]:
    """Return the kind and the id from what stands behind a marker's `%%`."""
    form = r"(?:\[(\w+)\])?[ \t]*([\w-]*)[ \t]*(?:\[(\w+)\])?[ \t]*"
    found = re.fullmatch(form, text, re.ASCII)
    if found and not (found[1] and found[3]):
        kind = found[1] or found[3] or "code"
        if kind in (*KINDS, "end"):
            return KINDS.get(kind, kind), found[2]
    hint = "write `# %% id` or `# %% [markdown] id`, and a title on the next line"
    raise LensError(f"not a marker: `# %% {text}`", at=at, hint=hint)


# %% split_view
def split_view(text: str, name: str) -> list[Section]:
    """Take a view without its first line apart; raises `LensError`."""
    lines = text.replace("\r\n", "\n").split("\n")
    starts = [i for i, line in enumerate(lines) if MARKER.match(line)]
    bounds = [*starts, len(lines)]
    above = trim(lines[: bounds[0]])
    sections = [Section("", "above", tuple(above))] if above else []
    for start, end in pairwise(bounds):
        at = Location(name, line=start + 1)
        behind = MARKER.match(lines[start])
        kind, id = read_marker(((behind and behind[1]) or "").strip(), at)
        sections.append(Section(id, kind, tuple(trim(lines[start + 1 : end]))))
    return sections


# %% read_view
@dataclass(frozen=True, slots=True)
class View:
    """A view: the notebook it is of, the token, and its sections."""

    notebook: str
    token: str
    sections: tuple[Section, ...]


def read_view(text: str) -> View:
    """Read a view; raises `LensError` if it is not one, or not all of one."""
    first, _, rest = text.removeprefix("\ufeff").partition("\n")
    found = re.fullmatch(r"# notebook (.+) @([0-9a-f]{16})\s*", first)
    if not found:
        hint = "take a view with `litml show`, and keep its first line"
        raise LensError("not a view of a notebook: it has no token", hint=hint)
    at = Location(unescape(f"#\\ {found[1]}"))
    sections = split_view(rest, "the view")
    ends = [section for section in sections if section.kind == "end"]
    if not ends:
        hint = "its last line, `# %% [end]`, may follow the last cell that there is"
        raise LensError("the view is cut off", at=at, hint=hint)
    if stray := [line for section in ends for line in section.lines]:
        hint = "begin a cell with `# %%`"
        raise LensError(f"below the end of the view: `{stray[0]}`", at=at, hint=hint)
    kept = tuple(section for section in sections if section.kind != "end")
    return View(at.notebook, found[2], kept)
