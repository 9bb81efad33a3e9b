# Exported from nbs/02_cells.ipynb. Edit either side, then run `litml sync`.
"""Read what a cell says of itself: its directives and the names it defines."""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from litml.notebook import Cell, LitmlError, Location, Notebook, suggest

__all__ = [
    "Directive",
    "split_head",
    "head_pattern",
    "DirectiveError",
    "split_words",
    "read_directives",
    "parse_code",
    "bound_names",
]


# ## One line
# %% Directive
@dataclass(frozen=True, slots=True)
class Directive:
    """One `#| name: value` line; `line` counts from 1 in the cell, 0 is metadata."""

    name: str
    value: str
    line: int


# %% COMMENTS
SLASHES = "c c++ cpp csharp d f# go java javascript kotlin rust scala swift typescript"
COMMENTS = {
    **dict.fromkeys(SLASHES.split(), "//"),
    **dict.fromkeys(["ada", "haskell", "lua", "sql"], "--"),
    **dict.fromkeys(["latex", "matlab", "octave", "prolog"], "%"),
    **dict.fromkeys(["clojure", "lisp", "scheme"], ";"),
}


# %% parse_line
def parse_line(text: str, number: int, prefix: str = "#") -> Directive | None:
    """Read one line as a directive, or return None if it is not one."""
    if not (match := line_pattern(prefix).match(text)):
        return None
    name, value = match[1], match[2].strip()
    if name == "eval":  # the one switch; people write `False`, and say why
        value = value.partition(" #")[0].rstrip().lower()
    return Directive(name, "" if value == "true" else value, number)


@cache
def line_pattern(prefix: str) -> re.Pattern[str]:
    """Return the pattern of a directive line."""
    return re.compile(rf"\s*{re.escape(prefix)}\s*\|\s*([^\s:]+)[^\S\n]*:?\s?(.*)")


# ## The head of a cell
# %% Head
@dataclass(frozen=True, slots=True)
class Head:
    """A source split in two: what its head says, and the body below it.

    `magics` are the head's `%%magic` lines; `body_line` is the body's first line in
    the cell, from 1. Blank lines at the body's edges belong to neither part.
    """

    directives: tuple[Directive, ...]
    magics: tuple[str, ...]
    body: str
    body_line: int


# %% split_head
def split_head(source: str, language: str = "python") -> Head:
    """Split a cell's source into its head and its body."""
    prefix = COMMENTS.get(language, "#")
    if not head_pattern(prefix).match(source):  # most cells have no head
        above = len(source) - len(source.lstrip())
        start = source.rfind("\n", 0, above) + 1
        return Head((), (), source[start:].rstrip(), source.count("\n", 0, start) + 1)
    directives: list[Directive] = []
    magics: list[str] = []
    lines = source.split("\n")
    top = 0
    for top, text in enumerate([*lines, "end"]):
        if directive := parse_line(text, top + 1, prefix):
            directives.append(directive)
        elif text.lstrip().startswith("%%"):
            magics.append(text)
        elif text.strip() and not head_pattern(prefix).match(text):
            break
    body = "\n".join(lines[top:]).rstrip()
    return Head(tuple(directives), tuple(magics), body, top + 1)


@cache
def head_pattern(prefix: str) -> re.Pattern[str]:
    """Return what begins a head, blank lines aside: a bar in a comment, or `%%`."""
    return re.compile(rf"\s*(?:{re.escape(prefix)}\s*\||%%)")


# ## Which names there are
# %% RULES
RULES: dict[str, str] = {
    **dict.fromkeys(["exportd", "hide", "hide_line", "exec_doc"], "none"),
    **dict.fromkeys(["no_all", "params"], "none"),
    **dict.fromkeys(["export", "exporti", "exports", "skip", "eval"], "optional"),
    **dict.fromkeys(["check-output"], "optional"),
    **dict.fromkeys(["default_exp", "filter_stream"], "required"),
    **dict.fromkeys(["raises", "timeout", "needs", "flaky", "outputs"], "required"),
    **dict.fromkeys(["depends", "gpu-memory"], "required"),
}
QUARTO = frozenset(
    "echo include output warning error message eval label tags id classes results"
    " cache column column-margin panel filename renderings cap-location align"
    " lightbox aria-label autorun collapse-output context edit runbutton".split()
)
QUARTO_FAMILIES = (
    "code-",
    "fig-",
    "tbl-",
    "lst-",
    "layout",
    "html-",
    "output-",
    "out-",
)


# %% DirectiveError
class DirectiveError(LitmlError):
    """A directive that is unknown, or whose value makes no sense."""


# %% check_directive
def check_directive(
    directive: Directive, at: Location, flags: Iterable[str] = ()
) -> None:
    """Raise `DirectiveError` unless the name is known and its value fits."""
    name, value = directive.name, directive.value
    rule = RULES.get(name, "none" if name in flags else None)
    if rule is None:
        if name in QUARTO or name.startswith(QUARTO_FAMILIES):
            return
        raise DirectiveError(
            f"unknown directive `{name}`", at=at, hint=suggest(name, [*RULES, *flags])
        )
    if rule == "none" and value:
        hint = f"a note belongs on a line of its own; write `#| {name}`"
        raise DirectiveError(f"`{name}` takes no value: `{value}`", at=at, hint=hint)
    if rule == "required" and not value:
        raise DirectiveError(f"`{name}` needs a value: `#| {name}: …`", at=at)
    check_value(name, value, at)


# %% check_value
NEEDS = ("gpu", "network", "slow")
VALUES = {
    "timeout": (r"\d*\.?\d+", "a number of seconds"),
    "flaky": (r"[1-9]\d*", "how often a cell may be tried"),
    "eval": (r"(false)?", "`true` or `false`"),
    "outputs": (r"drop|keep|small", "`drop`, `keep` or `small`"),
    "gpu-memory": (r"\d+(\.\d+)? ?[KMGT]i?B", "a size such as `6 GB`"),
}


def check_value(name: str, value: str, at: Location) -> None:
    """Raise `DirectiveError` if a value is not of its directive's kind."""
    pattern, description = VALUES.get(name, ("", ""))
    wrong = None
    if pattern and not re.fullmatch(pattern, value):
        wrong = f"`{name}` is {description}, not `{value}`"
    elif name == "needs" and (unknown := set(split_words(value)) - set(NEEDS)):
        wrong = f"`needs` knows {', '.join(NEEDS)}; not `{min(unknown)}`"
    elif name in ("export", "exporti", "exports", "default_exp") and " " in value:
        wrong = f"`{name}` takes one module, not `{value}`"
    if wrong:
        raise DirectiveError(wrong, at=at)


# %% split_words
def split_words(value: str) -> list[str]:
    """Split a value at commas and spaces."""
    return [word for word in re.split(r"[,\s]+", value) if word]


# ## All directives of a notebook
# %% read_directives
def read_directives(
    notebook: Notebook, flags: Iterable[str] = (), *, strict: bool = True
) -> list[dict[str, Directive]]:
    """Return the directives of every cell of the notebook, by name.

    `flags` are names the project allows as well. Raises `DirectiveError` at the
    first wrong one unless `strict` is off.
    """
    found = [cell_directives(cell, notebook, flags, strict) for cell in notebook.cells]
    shared = from_metadata(notebook.metadata)
    kinds = [cell.kind for cell in notebook.cells]
    if shared and "code" in kinds:
        first = kinds.index("code")
        said = {name for directives in found for name in directives}
        new = {name: one for name, one in shared.items() if name not in said}
        found[first] = {**new, **found[first]}
    return found


# %% cell_directives
def cell_directives(
    cell: Cell, notebook: Notebook, flags: Iterable[str], strict: bool
) -> dict[str, Directive]:
    """Return one cell's directives, from its metadata and its head."""
    if cell.kind == "raw":
        return {}
    language = str(cell.metadata.get("language") or notebook.language)
    head = split_head(cell.source, language).directives
    if strict and cell.kind == "code":
        for directive in head:
            at = Location(notebook.name, cell.id, directive.line)
            check_directive(directive, at, flags)
    return from_metadata(cell.metadata) | {one.name: one for one in head}


# %% from_metadata
def from_metadata(metadata: dict[str, object]) -> dict[str, Directive]:
    """Read the mapping `nbdev` in some metadata, as far as its values are text."""
    mapping = metadata.get("nbdev")
    pairs = mapping.items() if isinstance(mapping, dict) else []
    return {
        name: Directive(name, "" if value == "true" else value.strip(), 0)
        for name, value in pairs
        if isinstance(value, str)
    }


# ## The names a cell defines
# %% parse_code
def parse_code(text: str) -> ast.Module:
    """Parse code without Python's warnings about it; raises as `ast.parse` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


# %% bound_names
def bound_names(tree: ast.Module) -> list[str]:
    """Return the public names that code binds at its top level, in source order.

    Names listed in an assignment to `_all_` are included as they are.
    """
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own = [] if is_patch(node) else [node.name]
            names += [name for name in own if not name.startswith("_")]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = list(assigned(node))
            names += [name for name in targets if not name.startswith("_")]
            if "_all_" in targets and node.value:
                names += listed(node.value)
    return list(dict.fromkeys(names))


# %% is_patch
def is_patch(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Is it decorated with something called `patch…`, plain, called or an attribute?"""
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = getattr(called, "attr", getattr(called, "id", ""))
        if name.startswith("patch"):
            return True
    return False


# %% assigned
def assigned(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[str]:
    """Yield the names an assignment binds, also inside tuples, lists and stars."""
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return  # `x: int` binds nothing
    todo: list[ast.expr] = []
    todo += node.targets if isinstance(node, ast.Assign) else [node.target]
    while todo:
        target = todo.pop(0)
        if isinstance(target, ast.Name):
            yield target.id
        elif isinstance(target, ast.Tuple | ast.List):
            todo[:0] = target.elts
        elif isinstance(target, ast.Starred):
            todo.insert(0, target.value)


# %% listed
def listed(value: ast.expr) -> list[str]:
    """Return the names in the value of `_all_`: its strings and its symbols."""
    names = [
        getattr(item, "id", getattr(item, "value", "")) for item in ast.walk(value)
    ]
    return [name for name in names if isinstance(name, str) and name]
