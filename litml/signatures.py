# Exported from nbs/15e_signatures.ipynb. Edit either side, then run `litml sync`.
"""The parameters by which a function or class is called, from its text alone."""

import ast
import builtins
from collections.abc import Iterable, Mapping
from dataclasses import replace

import griffe

from litml.docments import Docstring
from litml.library import Function, Library, node_of
from litml.page import Parameter
from litml.parameters import (
    RECORDS,
    Signature,
    is_dataclass,
    list_decorators,
    list_outside,
    read_docstring,
    read_fields,
    read_function,
    read_list,
    read_namedtuple,
)

__all__ = [
    "read_class",
    "PLAIN",
    "is_exception",
    "drop_first",
    "describe_from",
    "read_signature",
    "decorate",
    "delegate",
    "name_keywords",
    "put_keywords",
    "find_target",
    "read_options",
    "is_constant",
]


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
                return describe_from(made, read_docstring(found))
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


def is_exception(name: str) -> bool:
    """Is it the name of an exception that is built in?"""
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def drop_first(signature: Signature) -> Signature:
    """Return a signature without `self` or `cls`."""
    first, *rest = signature.params or (None,)
    is_plain = first is not None and first.kind.startswith("positional")
    return replace(signature, params=tuple(rest) if is_plain else signature.params)


def describe_from(signature: Signature, said: Docstring) -> Signature:
    """Return a signature whose parameters are described where they were not yet."""
    params = (
        replace(
            one,
            description=one.description or said.described.get(one.name, ""),
            annotation=one.annotation or said.types.get(one.name, ""),
        )
        for one in signature.params
    )
    return replace(signature, params=tuple(params))


# ## Decorators
# %% keeps_signature
KEEPING = {
    *("staticmethod", "classmethod", "property", "functools.cache"),
    *("functools.lru_cache", "functools.cached_property", "functools.singledispatch"),
    *("functools.total_ordering", "contextlib.contextmanager", "enum.unique"),
    *("contextlib.asynccontextmanager", "abc.abstractmethod", "atexit.register"),
    *("torch.no_grad", "torch.inference_mode", "torch.enable_grad", "torch.compile"),
    *("jaxtyping.jaxtyped", "beartype.beartype", "dataclasses.dataclass"),
    *("warnings.deprecated", "numpy.errstate"),
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
