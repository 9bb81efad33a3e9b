# Exported from nbs/15e_signatures.ipynb. Edit either side, then run `litml sync`.
"""The parameters by which a function or class is called, from its text alone."""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
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
from litml.library import Function, Library, find_names, lines_of, node_of
from litml.page import Parameter

__all__ = [
    "Signature",
    "read_function",
    "read_docstring",
    "list_arguments",
    "read_class",
    "PLAIN",
    "RECORDS",
    "list_outside",
    "read_namedtuple",
    "read_list",
    "is_exception",
    "drop_first",
    "describe_from",
    "read_fields",
    "list_fields",
    "read_field",
    "read_string",
    "read_default",
    "is_dataclass",
    "dataclass_options",
    "read_signature",
    "decorate",
    "delegate",
    "name_keywords",
    "put_keywords",
    "find_target",
    "read_options",
    "is_constant",
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


# ## Classes
# %% read_class
def read_class(found: griffe.Class, library: Library) -> Signature:
    """Return the signature by which objects of a class are made."""
    ancestors = library.ancestors(found)
    outside = [name for one in ancestors for name in list_outside(one, library)]
    if any(name.startswith("enum.") for name in outside):
        return Signature()
    for one in ancestors:
        for name in ("__init__", "__new__"):
            maker = one.members.get(name)
            if isinstance(maker, griffe.Function):
                made = drop_first(read_signature(maker, library))
                made = replace(made, returns="", returned="")
                return describe_from(made, read_docstring(found), returns=False)
        if is_dataclass(one, library) or set(RECORDS) & {*list_outside(one, library)}:
            return read_fields(one, library)
        for base in node_of(one).bases:
            if (tupled := read_namedtuple(base)) is not None:
                return tupled
    is_unknown = any(name not in PLAIN for name in outside)
    if is_unknown and all(is_exception(name) or name in PLAIN for name in outside):
        return Signature((Parameter("args", "var-positional"),))
    return Signature(is_dynamic=is_unknown)


PLAIN = {
    *("object", "abc.ABC", "typing.Generic", "typing.Protocol"),
    *("typing_extensions.Protocol", "contextlib.ContextDecorator"),
}
RECORDS = ("typing.NamedTuple", "typing.TypedDict", "typing_extensions.TypedDict")


def list_outside(found: griffe.Class, library: Library) -> list[str]:
    """Return the bases of a class that the library does not hold."""
    scope = found.parent or found
    bases = (str(base).partition("[")[0] for base in found.bases)
    paths = [library.meaning(base, scope) or base for base in bases]
    return [path for path in paths if library.find(path) is None]


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


def is_exception(name: str) -> bool:
    """Is it the name of an exception that is built in?"""
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def drop_first(signature: Signature) -> Signature:
    """Return a signature without `self` or `cls`."""
    first, *rest = signature.params or (None,)
    is_plain = first is not None and first.kind.startswith("positional")
    return replace(signature, params=tuple(rest) if is_plain else signature.params)


def describe_from(
    signature: Signature, said: Docstring, returns: bool = True
) -> Signature:
    """Return a signature whose parameters are described where they were not yet."""
    params = (
        replace(
            one,
            description=one.description or said.described.get(one.name, ""),
            annotation=one.annotation or said.types.get(one.name, ""),
        )
        for one in signature.params
    )
    returned = signature.returned or (said.described.get("return", "") * returns)
    return replace(signature, params=tuple(params), returned=returned)


# %% read_fields
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


# ## Decorators
# %% keeps_signature
KEEPING = {
    *("staticmethod", "classmethod", "property", "functools.cache"),
    *("functools.lru_cache", "functools.cached_property", "functools.singledispatch"),
    *("functools.total_ordering", "contextlib.contextmanager", "enum.unique"),
    *("contextlib.asynccontextmanager", "abc.abstractmethod", "atexit.register"),
    *("torch.no_grad", "torch.inference_mode", "torch.enable_grad", "torch.compile"),
    *("jaxtyping.jaxtyped", "beartype.beartype", "dataclasses.dataclass"),
    *("warnings.deprecated", "numpy.errstate", "unittest.mock.patch"),
}
KEEPING_NAMES = {"patch", "patch_to", "call_parse", "dataclass", "setter", "deleter"}


def keeps_signature(path: str, library: Library) -> bool:
    """Is a decorator known to leave the signature as it is?"""
    if path in KEEPING or path.rpartition(".")[2] in KEEPING_NAMES:
        return True
    if path.partition(".")[0] in ("typing", "typing_extensions"):
        return True
    found = library.find(path)
    node = node_of(found) if found is not None else None
    return isinstance(node, Function) and returns_given(node)


def returns_given(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Does a decorator return the function it is given, or one that wraps it?"""
    words = {getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(node)}
    if "__signature__" in words:
        return False
    if words & {"wraps", "update_wrapper"}:
        return True
    first = next(iter([*node.args.posonlyargs, *node.args.args]), None)
    inner = {one.name: one for one in node.body if isinstance(one, Function)}
    results = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
    names = {getattr(one, "id", "") for one in results}
    if first is not None and names == {first.arg}:
        return True
    made = [inner[name] for name in names if name in inner]
    return len(made) == 1 and returns_given(made[0])


# %% read_signature
def read_signature(found: griffe.Object, library: Library) -> Signature:
    """Return the signature of a function or class, with what decorators make of it."""
    node = node_of(found)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return read_namedtuple(node.value) or Signature()
    key = f"{found.path}()"
    if key in library.pending:  # it delegates to what delegates to it
        return Signature(is_dynamic=True)
    library.pending.add(key)
    try:
        if isinstance(found, griffe.Class):
            signature = read_class(found, library)
        else:
            signature = read_function(found, library)
        for path, call in list_decorators(found, library):
            signature = decorate(signature, found, path, call, library)
    finally:
        library.pending.discard(key)
    return signature


def decorate(
    signature: Signature,
    found: griffe.Object,
    path: str,
    call: ast.Call | None,
    library: Library,
) -> Signature:
    """Return a signature as a decorator leaves it."""
    name = path.rpartition(".")[2]
    if name in ("delegates", "delegated"):
        return delegate(signature, found, call, library)
    if name in ("use_kwargs", "use_kwargs_dict") and call:
        return name_keywords(signature, call)
    if path == "functools.wraps" and call and call.args:
        target = find_target(call.args[0], found, library)
        known = read_signature(target, library) if target else signature
        return replace(known, is_dynamic=known.is_dynamic or target is None)
    if keeps_signature(path, library):
        return signature
    return replace(signature, is_dynamic=True)


def delegate(
    signature: Signature, found: griffe.Object, call: ast.Call | None, library: Library
) -> Signature:
    """Return a signature with the parameters of what a function delegates to."""
    options = read_options(call, ("to", "keep", "but", "sort_args"))
    if "to" in options and not is_constant(options["to"], None):
        target = find_target(options["to"], found, library)
    else:
        bases = library.bases(found) if isinstance(found, griffe.Class) else []
        target = bases[0] if bases else None
    if target is None or found.path == target.path:
        return replace(signature, is_dynamic=True)
    there = read_signature(target, library)
    skipped = {one.name for one in signature.params} | {*read_list(options.get("but"))}
    more = [
        replace(one, kind="keyword")
        for one in there.params
        if one.default and one.name not in skipped
    ]
    if is_constant(options.get("sort_args"), True):
        more.sort(key=lambda one: one.name)
    keep = is_constant(options.get("keep"), True)
    names = {**there.names, **signature.names}
    made = put_keywords(replace(signature, names=names), more, keep)
    return replace(made, is_dynamic=signature.is_dynamic or there.is_dynamic)


def name_keywords(signature: Signature, call: ast.Call) -> Signature:
    """Return a signature in which `**kwargs` has names, as `use_kwargs` gives them."""
    keep = any(
        one.arg == "keep" and is_constant(one.value, True) for one in call.keywords
    )
    named = {str(one.arg): ast.unparse(one.value) for one in call.keywords}
    named = {
        name: value for name, value in named.items() if name not in ("keep", "names")
    }
    named |= dict.fromkeys(read_list(call.args[0] if call.args else None), "None")
    there = {one.name for one in signature.params}
    more = [Parameter(n, "keyword", "", v) for n, v in named.items() if n not in there]
    return put_keywords(signature, more, keep)


def put_keywords(
    signature: Signature, more: Iterable[Parameter], keep: bool
) -> Signature:
    """Return a signature with parameters for `**kwargs`, which may stay, too."""
    rest = [one for one in signature.params if one.kind == "var-keyword"]
    plain = [one for one in signature.params if one.kind != "var-keyword"]
    return replace(signature, params=(*plain, *more, *(rest if keep else [])))


def find_target(
    node: ast.expr, found: griffe.Object, library: Library
) -> griffe.Object | None:
    """Return the function or class that an expression in a decorator names."""
    target = library.find(library.meaning(ast.unparse(node), found.parent or found))
    return (
        target
        if target and isinstance(node_of(target), Function | ast.ClassDef)
        else None
    )


def read_options(
    call: ast.Call | None, names: tuple[str, ...]
) -> Mapping[str, ast.expr]:
    """Return the arguments of a call by the names of its parameters."""
    if call is None:
        return {}
    options = dict(zip(names, call.args, strict=False))
    return options | {str(one.arg): one.value for one in call.keywords}


def is_constant(node: ast.expr | None, value: object) -> bool:
    """Is an expression the constant `value`?"""
    return isinstance(node, ast.Constant) and node.value is value
