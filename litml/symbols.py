# Exported from nbs/15e_symbols.ipynb. Edit either side, then run `litml sync`.
"""What a generated module defines, as plain data, read from its text and never
imported.
"""

import ast
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace

import griffe

from litml.library import (
    NOWHERE,
    Function,
    Library,
    find_names,
    lines_of,
    node_of,
    patches_of,
)
from litml.page import Symbol
from litml.parameters import (
    Signature,
    read_docstring,
    read_namedtuple,
    show_type,
)
from litml.patch import read_patch
from litml.signatures import drop_first, read_signature

__all__ = ["MARKER", "find_cells", "read_symbols", "walk", "place"]


# ## Cells
# %% find_cells
MARKER = re.compile(r"^# %% (?:\S+\.ipynb #?)?([\w-]+)$", re.MULTILINE)


def find_cells(text: str) -> dict[int, str]:
    """Return the cells of a module's text, by the line of their marker."""
    return {
        line: found[1]
        for line, one in enumerate(text.split("\n"), 1)
        if (found := MARKER.match(one)) and "%%" in one
    }


# ## What is public
# %% list_public
def list_public(module: griffe.Module) -> Iterator[griffe.Object]:
    """Yield what a module defines for others, in the order of its text."""
    names = [str(one) for one in module.exports or ()]
    for name, one in module.members.items():
        if isinstance(one, griffe.Alias) or one.is_module:
            continue
        is_public = name in names if names else not name.startswith("_")
        if is_public and node_of(one) is not None:
            yield one


def list_members(found: griffe.Class) -> Iterator[griffe.Object]:
    """Yield the members of a class that are of use to others."""
    for name, member in found.members.items():
        if isinstance(member, griffe.Alias) or node_of(member) is None:
            continue
        is_special = name.startswith("__") and name not in ("__init__", "__new__")
        is_inside = any(one is node_of(member) for one in node_of(found).body)
        if name.startswith("_"):
            is_shown = is_special and member.has_docstring
        else:
            is_shown = is_inside or member.has_docstring
        if is_shown:
            yield member


# ## Making symbols
# %% read_symbols
def read_symbols(
    text: str, module: str, library: Library | None = None
) -> tuple[Symbol, ...]:
    """Return what a module defines for others, in the order of its text.

    The `library` knows other modules of the package: bases, `@delegates`, re-exports.
    """
    library = library or Library()
    found, starts = library.add(module, text), find_cells(text)
    patched = {one.name: one for one in make_patched(found, library)}
    own = [one for public in list_public(found) for one in walk(public, library)]
    own = [one for one in own if one.name not in patched]
    ordered = sorted([*own, *patched.values()], key=lambda one: (one.line, one.name))
    return tuple(place(one, starts) for one in ordered)


def walk(found: griffe.Object, library: Library) -> Iterator[Symbol]:
    """Yield the symbol of a definition, and those of a class's members."""
    yield make_symbol(found, found.path.removeprefix(f"{found.module.path}."), library)
    if isinstance(found, griffe.Class):
        for one in list_members(found):
            yield from walk(one, library)


def place(symbol: Symbol, starts: Mapping[int, str]) -> Symbol:
    """Return a symbol with the cell that its line is in."""
    lines = sorted(starts)
    index = bisect_right(lines, symbol.line)
    return replace(symbol, cell=starts[lines[index - 1]] if index else "")


# %% make_symbol
def make_symbol(found: griffe.Object, name: str, library: Library) -> Symbol:
    """Return the symbol of a definition, which has a name of its own in its module."""
    node = node_of(found)
    kind = find_kind(found)
    decorators = [ast.unparse(one) for one in getattr(node, "decorator_list", ())]
    signature = read_shown(found, library)
    if kind in ("method", "property") and "staticmethod" not in decorators:
        signature = drop_first(signature)
    bases = [ast.unparse(one) for one in getattr(node, "bases", ())]
    shown = [*bases, *show_overloads(found)]
    names = signature.names | find_names(shown, found.parent or found, library)
    return Symbol(
        name=name,
        module=found.module.path,
        kind=kind,
        signature_params=signature.params,
        returns=signature.returns,
        returns_description=signature.returned,
        doc=write_doc(found, signature),
        overloads=tuple(show_overloads(found)),
        bases=tuple(bases),
        decorators=tuple(decorators),
        line=first_line(node),
        end_line=node.end_lineno,
        names=tuple(names.items()),
        dynamic=signature.is_dynamic,
    )


def first_line(node: ast.stmt) -> int:
    """Return the line where a definition begins, with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def write_doc(found: griffe.Object, signature: Signature) -> str:
    """Return the docstring, but for what the table of parameters says.

    What is described there and is no parameter, as an attribute, becomes a list.
    """
    said = read_docstring(found)
    maker = found.members.get("__init__")
    if not said.text and isinstance(maker, griffe.Function):
        said = read_docstring(maker)
    taken = {one.name for one in signature.params} | {"return"}
    more = [
        f"- `{': '.join(filter(None, [name, said.types.get(name)]))}`: {text}"
        for name, text in said.described.items()
        if name not in taken
    ]
    return "\n\n".join(filter(None, [said.text, "\n".join(more)]))


def show_overloads(found: griffe.Object) -> Iterator[str]:
    """Yield the signatures that `@overload` declares, each on a line."""
    for one in (isinstance(found, griffe.Function) and found.overloads) or ():
        node = node_of(one)
        args = ast.unparse(node.args)
        if isinstance(found.parent, griffe.Class):
            args = re.sub(r"^(self|cls)(, (/, )?|$)", "", args)
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        yield f"{found.name}({args}){result}"


def find_kind(found: griffe.Object) -> str:
    """Return the kind of a symbol."""
    if isinstance(found, griffe.Class):
        return "class"
    if isinstance(found, griffe.Function):
        return "method" if isinstance(found.parent, griffe.Class) else "function"
    node = node_of(found)
    if isinstance(node, Function):
        return "property"
    is_made = read_namedtuple(getattr(node, "value", None)) is not None
    return "class" if is_made else "attribute"


def read_shown(found: griffe.Object, library: Library) -> Signature:
    """Return the signature of a definition; of an attribute, its type."""
    if find_kind(found) != "attribute":
        return read_signature(found, library)
    annotation = getattr(node_of(found), "annotation", None)
    shown = show_type(annotation, lines_of(found))
    return Signature(returns=shown, names=find_names([shown], found, library))


# %% make_patched
ROLES = {
    "as_prop": ("property", ""),
    "cls_method": ("method", "classmethod"),
    "static_method": ("method", "staticmethod"),
}


def make_patched(module: griffe.Module, library: Library) -> Iterator[Symbol]:
    """Yield the methods that functions of a module become."""
    for function in patches_of(module):
        patch = read_patch(node_of(function), NOWHERE)
        if patch is None or patch.role == "set_prop" or patch.name.startswith("_"):
            continue
        kind, decorator = ROLES.get(patch.role, ("method", ""))
        for owner in patch.owners:
            symbol = make_symbol(function, f"{owner}.{patch.name}", library)
            params = symbol.signature_params
            params = params if decorator == "staticmethod" else params[1:]
            decorators = (decorator,) if decorator else ()
            yield replace(
                symbol, kind=kind, signature_params=params, decorators=decorators
            )
