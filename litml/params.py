# Exported from nbs/11a_params.ipynb. Edit either side, then run `litml sync`.
"""Run one notebook with many values: find its parameters, check what is given for
them, and put it in.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litml.cells import read_directives, split_head
from litml.notebook import Cell, LitmlError, Location, Notebook, suggest
from litml.text import parse_source

__all__ = [
    "ParamsError",
    "find_params",
    "KINDS",
    "Param",
    "read_params",
    "find_assignment",
    "make_param",
    "fit_value",
    "parse_word",
    "split_pairs",
    "check_values",
    "refuse_unknown",
    "check_words",
    "GIVEN",
    "inject_values",
    "make_given",
    "write_value",
    "label",
]


# %% ParamsError
class ParamsError(LitmlError):
    """A parameter that there is not, or a value that does not fit it."""


# ## Finding the cell
# %% find_params
def find_params(notebook: Notebook) -> Cell | None:
    """Return the cell of parameters, if there is one. Raises `ParamsError` for two."""
    found = [
        cell
        for cell, said in zip(
            notebook.cells, read_directives(notebook, strict=False), strict=True
        )
        if cell.kind == "code"
        and ("params" in said or "parameters" in (cell.metadata.get("tags") or []))
    ]
    if len(found) > 1:
        at = Location(notebook.name, found[1].id)
        hint = f"merge it into the first, cell {found[0].id}"
        raise ParamsError("a second cell of parameters", at=at, hint=hint)
    return found[0] if found else None


# %% Param
KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)
}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter; `kind` is the type its values have, None for any."""

    name: str
    default: Any
    kind: type | None
    optional: bool
    at: Location


# %% read_params
def read_params(notebook: Notebook) -> dict[str, Param]:
    """Return the notebook's parameters by name, in order; none if no cell is marked.

    Raises `ParamsError` if the cell is not plain Python.
    """
    if not (cell := find_params(notebook)):
        return {}
    at = Location(notebook.name, cell.id)
    if notebook.language != "python":
        message = f"parameters are for Python, not {notebook.language}"
        raise ParamsError(message, at=at)
    head = split_head(cell.source)
    try:
        body = ast.parse(head.body).body
    except SyntaxError as error:
        raise ParamsError(f"not plain Python: {error.msg}", at=at) from error
    found = {}
    for node in body:
        if assignment := find_assignment(node):
            line = node.lineno + head.body_line - 1
            place = Location(notebook.name, cell.id, line)
            param = make_param(*assignment, place)
            found[param.name] = param
    return found


def find_assignment(node: ast.stmt) -> tuple[str, ast.expr, ast.expr | None] | None:
    """Return name, value and annotation if a statement assigns to one name."""
    match node:
        case ast.Assign([ast.Name(name)], value):
            return name, value, None
        case ast.AnnAssign(ast.Name(name), annotation, ast.expr() as value):
            return name, value, annotation
    return None


# %% make_param
def make_param(
    name: str, value: ast.expr, annotation: ast.expr | None, at: Location
) -> Param:
    """Return the parameter for an assignment."""
    words = ast.unparse(annotation).split("|") if annotation else []
    plain = [word.strip().partition("[")[0] for word in words]
    named = [KINDS[word] for word in plain if word in KINDS]
    try:
        default = ast.literal_eval(value)
    except ValueError:  # it is computed
        default = None
    kind = KINDS.get(type(default).__name__)
    if annotation:
        kind = named[0] if len(named) == 1 else None
    return Param(name, default, kind, default is None or "None" in plain, at)


# ## Values that fit
# %% fit_value
def fit_value(param: Param, value: Any) -> Any:
    """Return a value as the parameter's kind. Raises `ParamsError` if it has none."""
    kind = param.kind
    if kind is None or (value is None and param.optional):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind in (list, tuple) and isinstance(value, list | tuple):
        return kind(value)
    if type(value) is kind:
        return value
    message = f"`{param.name}` is of type {kind.__name__}, and {value!r} is not"
    hint = f"its default is {param.default!r}"
    raise ParamsError(message, at=param.at, hint=hint)


# %% parse_word
def parse_word(text: str, param: Param) -> Any:
    """Return the value that a word of a command line has for this parameter."""
    if param.kind is str:
        return text
    constants = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in constants:
        return constants[text.lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text


# %% split_pairs
def split_pairs(words: Sequence[str]) -> dict[str, str]:
    """Split words such as `lr=0.1`; the last one for a name counts.

    Raises `ParamsError` for a word without a name.
    """
    pairs = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip().isidentifier():
            hint = "write `-p lr=0.1`"
            raise ParamsError(f"not a parameter and its value: `{word}`", hint=hint)
        pairs[name.strip()] = text
    return pairs


# %% check_values
def check_values(notebook: Notebook, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the kinds of the notebook's parameters.

    Raises `ParamsError` for one that does not fit, or that there is not.
    """
    params = read_params(notebook)
    for name in values:
        refuse_unknown(name, params, Location(notebook.name))
    return {name: fit_value(params[name], value) for name, value in values.items()}


def refuse_unknown(name: str, known: Mapping[str, Any], at: Location) -> None:
    """Raise `ParamsError` if there is no parameter of that name."""
    if name not in known:
        listed = f"it has {', '.join(known)}" if known else "mark a cell `#| params`"
        hint = suggest(name, known) or listed
        raise ParamsError(f"there is no parameter `{name}`", at=at, hint=hint)


# %% check_words
def check_words(notebook: Notebook, words: Sequence[str]) -> dict[str, Any]:
    """Do what `check_values` does for words of a command line, such as `lr=0.1`."""
    params = read_params(notebook)
    pairs = split_pairs(words)
    for name in pairs:
        refuse_unknown(name, params, Location(notebook.name))
    values = {name: parse_word(text, params[name]) for name, text in pairs.items()}
    return check_values(notebook, values)


# ## Into the notebook
# %% inject_values
GIVEN = "injected-parameters"


def inject_values(notebook: Notebook, values: Mapping[str, Any]) -> Notebook:
    """Return a copy of the notebook with a cell that assigns the values, if any.

    They are checked first; see `check_values` for what that raises.
    """
    if not values:
        return notebook
    values = check_values(notebook, values)
    copy = parse_source(notebook.to_bytes(), notebook.name)
    marked = find_params(copy)
    if not values or marked is None:
        return copy
    lines = [f"{name} = {write_value(value)}" for name, value in values.items()]
    kept = [
        cell for cell in copy.cells if GIVEN not in (cell.metadata.get("tags") or [])
    ]
    names = [cell.id for cell in kept]
    name = f"{marked.id}-given"
    given = make_given(f"{name}-too" if name in names else name, lines)
    place = names.index(marked.id) + 1
    copy.cells = [*kept[:place], given, *kept[place:]]
    return copy


def make_given(name: str, lines: Sequence[str]) -> Cell:
    """Return a new cell that assigns the values."""
    source = "\n".join(["# Parameters", *lines])
    new: dict[str, Any] = {"cell_type": "code", "execution_count": None, "outputs": []}
    return Cell({**new, "id": name, "metadata": {"tags": [GIVEN]}, "source": source})


# %% write_value
def write_value(value: Any) -> str:
    """Return Python for a plain value. Raises `ParamsError` for others."""
    if isinstance(value, float) and repr(value).strip("-") in ("inf", "nan"):
        return f'float("{value}")'
    if isinstance(value, list):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, tuple):
        return f"({''.join(write_value(one) + ', ' for one in value).strip()})"
    if isinstance(value, dict):
        pairs = [f"{write_value(k)}: {write_value(v)}" for k, v in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)
    raise ParamsError(f"a parameter cannot be a {type(value).__name__}")


# ## Names for rows
# %% label
def label(values: Mapping[str, Any], width: int = 30) -> str:
    """Return a short name for some values, such as `lr=0.1,epochs=3`."""
    words = []
    for name, value in values.items():
        text = value if isinstance(value, str) else write_value(value)
        plain = re.sub(r"[^\w.+-]+", "_", text).strip("_")
        words.append(f"{name}={plain[:width]}")
    return ",".join(words)
