# Exported from nbs/15e_parameters.ipynb. Edit either side, then run `litml sync`.
"""What a `def` or the fields of a class take, each parameter with its type and what
is said of it.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import griffe

from litml.docments import (
    Docstring,
    bare_type,
    describe_annotated,
    describe_parameters,
    pair_defaults,
    parse_docstring,
)
from litml.library import Library, find_names, lines_of, node_of
from litml.page import Parameter

__all__ = [
    "Signature",
    "read_function",
    "read_docstring",
    "list_arguments",
    "RECORDS",
    "read_fields",
    "list_outside",
    "list_fields",
    "read_field",
    "read_string",
    "read_default",
    "is_dataclass",
    "dataclass_options",
    "read_namedtuple",
    "read_list",
]


# ## As it is written
# %% Source
def show(node: ast.expr | None, lines: list[str]) -> str:
    """Return an expression as it is written, without quotes around a whole type."""
    if node is None:
        return ""
    if node.lineno != node.end_lineno:
        return ast.unparse(node)
    line = lines[node.lineno - 1].encode()
    return line[node.col_offset : node.end_col_offset].decode()


def show_type(node: ast.expr | None, lines: list[str]) -> str:
    """Return an annotation as it is written, or what its quotes hold."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return show(node, lines)


# %% Signature
@dataclass(frozen=True, slots=True)
class Signature:
    """How something is called. `names` are those in its types, and what they mean."""

    params: tuple[Parameter, ...] = ()
    returns: str = ""
    returned: str = ""
    names: dict[str, str] = field(default_factory=dict)
    is_dynamic: bool = False

    def param(self, name: str) -> Parameter | None:
        """Return a parameter by its name."""
        return next((one for one in self.params if one.name == name), None)


# ## Functions
# %% read_function
def read_function(function: griffe.Object, library: Library) -> Signature:
    """Return the signature of a `def`, before any decorator changes it."""
    node, lines = node_of(function), lines_of(function)
    said = read_docstring(function)
    beside = describe_parameters(node, lines)
    defaults = {
        one.arg: show(default, lines) for one, default in pair_defaults(node.args)
    }
    params = []
    for arg, kind in list_arguments(node.args):
        type_shown = show_type(bare_type(arg.annotation), lines) or said.types.get(
            arg.arg, ""
        )
        description = beside.get(arg.arg) or describe_annotated(arg.annotation)
        description = description or said.described.get(arg.arg, "")
        default = defaults.get(arg.arg, "")
        params.append(Parameter(arg.arg, kind, type_shown, default, description))
    returns = show_type(bare_type(node.returns), lines) or said.types.get("return", "")
    returned = beside.get("return") or describe_annotated(node.returns)
    returned = returned or said.described.get("return", "")
    names = find_names(
        [returns, *(one.annotation for one in params)], function, library
    )
    return Signature(tuple(params), returns, returned, names)


def read_docstring(found: griffe.Object) -> Docstring:
    """Return the docstring of a definition, read."""
    return parse_docstring(found.docstring.value if found.docstring else "")


def list_arguments(args: ast.arguments) -> Iterator[tuple[ast.arg, str]]:
    """Yield the parameters of a function in their order, with their kinds."""
    yield from ((one, "positional-only") for one in args.posonlyargs)
    yield from ((one, "positional") for one in args.args)
    if args.vararg:
        yield args.vararg, "var-positional"
    yield from ((one, "keyword") for one in args.kwonlyargs)
    if args.kwarg:
        yield args.kwarg, "var-keyword"


# %% list_decorators
def list_decorators(
    found: griffe.Object, library: Library
) -> list[tuple[str, ast.Call | None]]:
    """Return the paths of decorators, the innermost first, and their calls."""
    scope = found.parent or found
    decorators = []
    for one in reversed(node_of(found).decorator_list):
        call = one if isinstance(one, ast.Call) else None
        name = ast.unparse(call.func if call else one)
        decorators.append((library.meaning(name, scope) or name, call))
    return decorators


# ## Fields
# %% read_fields
RECORDS = ("typing.NamedTuple", "typing.TypedDict", "typing_extensions.TypedDict")


def read_fields(found: griffe.Class, library: Library) -> Signature:
    """Return the parameters that the fields of a class and of its bases make."""
    params: dict[str, Parameter] = {}
    names: dict[str, str] = {}
    for one in reversed(library.ancestors(found)):
        said = read_docstring(one)
        for param in list_fields(one, library):
            described = param.description or said.described.get(param.name, "")
            params[param.name] = replace(param, description=described)
            names |= find_names([param.annotation], one, library)
    ordered = sorted(params.values(), key=lambda param: param.kind == "keyword")
    return Signature(tuple(ordered), names=names)


def list_outside(found: griffe.Class, library: Library) -> list[str]:
    """Return the bases of a class that the library does not hold."""
    scope = found.parent or found
    bases = (str(base).partition("[")[0] for base in found.bases)
    paths = [library.meaning(base, scope) or base for base in bases]
    return [path for path in paths if library.find(path) is None]


def list_fields(found: griffe.Class, library: Library) -> Iterator[Parameter]:
    """Yield the parameters that a class's own fields make."""
    node = node_of(found)
    options = dataclass_options(found, library)
    if options is None and not set(RECORDS) & {*list_outside(found, library)}:
        return
    beside = describe_parameters(node, lines_of(found))
    is_keyword = (options or {}).get("kw_only") == "True"
    for one, below in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        if ast.unparse(one.annotation).rpartition(".")[2] == "KW_ONLY":
            is_keyword = True
        elif param := read_field(one, is_keyword, lines_of(found)):
            described = beside.get(param.name) or describe_annotated(one.annotation)
            yield replace(param, description=described or read_string(below))


def read_field(
    node: ast.AnnAssign, is_keyword: bool, lines: list[str]
) -> Parameter | None:
    """Return the parameter that a field makes; None if it makes none."""
    shown = show_type(bare_type(node.annotation), lines)
    made = read_default(node.value, lines)
    if "ClassVar" in shown or made.get("init") == "False":
        return None
    is_keyword = made.get("kw_only", str(is_keyword)) == "True"
    if initial := re.fullmatch(r"(?:\w+\.)?InitVar\[(.*)\]", shown):
        shown = initial[1]
    name, kind = ast.unparse(node.target), "keyword" if is_keyword else "positional"
    return Parameter(name, kind, shown, made.get("default", ""))


def read_string(node: ast.stmt | None) -> str:
    """Return the text of a statement that is only a string."""
    value = getattr(getattr(node, "value", None), "value", None)
    is_string = isinstance(node, ast.Expr) and isinstance(value, str)
    return " ".join(str(value).split()) if is_string else ""


def read_default(value: ast.expr | None, lines: list[str]) -> dict[str, str]:
    """Return what a field's value says: its default, and the options of `field`."""
    if value is None:
        return {}
    name = getattr(value, "func", None)
    if getattr(name, "attr", getattr(name, "id", "")) != "field":
        return {"default": show(value, lines)}
    assert isinstance(value, ast.Call)
    options = {str(one.arg): show(one.value, lines) for one in value.keywords}
    if "default_factory" in options:
        options["default"] = f"{options['default_factory']}()"
    return options


def is_dataclass(found: griffe.Class, library: Library) -> bool:
    """Is a class decorated as a dataclass?"""
    return dataclass_options(found, library) is not None


def dataclass_options(found: griffe.Class, library: Library) -> dict[str, str] | None:
    """Return the options of a dataclass, as written; None if it is none."""
    for path, call in list_decorators(found, library):
        if path.rpartition(".")[2] == "dataclass":
            keywords = call.keywords if call else []
            return {str(one.arg): ast.unparse(one.value) for one in keywords}
    return None


# %% read_namedtuple
def read_namedtuple(value: ast.expr | None) -> Signature | None:
    """Return the signature of what a call of `namedtuple` makes; None for another."""
    name = getattr(value, "func", None)
    if getattr(name, "attr", getattr(name, "id", "")) != "namedtuple":
        return None
    arguments = value.args if isinstance(value, ast.Call) else []
    fields = read_list(arguments[1]) if len(arguments) > 1 else []
    return Signature(tuple(Parameter(one) for one in fields), is_dynamic=not fields)


def read_list(node: ast.expr | None) -> list[str]:
    """Return the words of a list, or of a string with spaces or commas."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace(",", " ").split()
    elements: list[Any] = getattr(node, "elts", [])
    return [str(one.value) for one in elements if isinstance(one, ast.Constant)]
