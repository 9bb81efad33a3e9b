# Exported from nbs/15e_library.ipynb. Edit either side, then run `litml sync`.
"""The modules of a package as text: visited once each, and their names followed."""

import ast
import builtins
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import griffe

from litml.export import Chunk
from litml.patch import read_patch

__all__ = ["Found", "Library", "find_names"]


# ## What griffe forgets
# %% NodeKeeper
OWN = "litml"  # where griffe lets an extension keep its own things
Function = ast.FunctionDef | ast.AsyncFunctionDef


class NodeKeeper(griffe.Extension):
    """Keep syntax trees, functions that belong to classes, and imports of all."""

    def on_instance(
        self, *, node: Any, obj: griffe.Object, agent: Any, **kwargs: Any
    ) -> None:
        """Note the tree of a definition and, of functions of a module, all."""
        obj.extra[OWN]["node"] = node
        if isinstance(obj, griffe.Function) and agent.current.is_module:
            functions = agent.current.extra[OWN].setdefault("functions", [])
            functions.append(obj)

    def on_module_members(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        """Take functions that belong to classes out; note what `*` is imported from."""
        functions: list[griffe.Function] = mod.extra[OWN].get("functions", [])
        plain = {one.name: one for one in functions if not is_patch(one)}
        patches = [one for one in functions if is_patch(one)]
        mod.extra[OWN]["patches"] = patches
        for patch in patches:
            if mod.members.get(patch.name) is patch:
                del mod.members[patch.name]
                if patch.name in plain:
                    mod.set_member(patch.name, plain[patch.name])
        aliases = (one for one in mod.members.values() if isinstance(one, griffe.Alias))
        stars = [one.target_path for one in aliases if one.name.endswith("/*")]
        mod.extra[OWN]["stars"] = stars[::-1]


def is_patch(function: griffe.Function) -> bool:
    """Is a function added to a class, rather than to its module?"""
    node = function.extra[OWN]["node"]
    return read_patch(node, NOWHERE) is not None


NOWHERE = Chunk("", "", 1, "", "")


def node_of(found: griffe.Object) -> Any:
    """Return the syntax tree of a definition; None for one that griffe made up."""
    return found.extra[OWN].get("node")


def patches_of(module: griffe.Module) -> list[griffe.Function]:
    """Return the functions of a module that belong to classes, in their order."""
    patches: list[griffe.Function] = module.extra[OWN].get("patches", [])
    return patches


def stars_of(module: griffe.Object) -> list[str]:
    """Return the modules that a module imports everything from, the last one first."""
    stars: list[str] = module.extra[OWN].get("stars", [])
    return stars


def lines_of(found: griffe.Object) -> list[str]:
    """Return the lines of the module that a definition stands in."""
    lines: list[str] = found.module.extra[OWN]["lines"]
    return lines


# ## Modules
# %% Library
Found = griffe.Object | str  # a path is what leads out of the library


class Library:
    """Modules below a folder, visited when first asked for; none of them imported.

    Without a folder it knows only what `add` was given.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.modules = griffe.ModulesCollection()
        self.visited: dict[str, griffe.Module | None] = {}
        self.pending: set[str] = set()  # what is being read: to go round ends there
        self.passed_on: dict[tuple[str, str], str] = {}

    def add(self, name: str, text: str) -> griffe.Module:
        """Visit the text of a module, in place of its file."""
        self.passed_on.clear()
        old = self.visited.get(name)
        lines = text.split("\n")
        if old is not None and lines_of(old) == lines:
            return old
        parent, _, last = name.rpartition(".")
        above = self.open(parent) if parent else None
        if parent and above is None:
            above = self.add(parent, "")
        is_package = not parent or self.is_package(name)
        file = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        module = visit(last, file, text, parent=above, modules_collection=self.modules)
        module.extra[OWN]["lines"] = lines
        self.visited[name] = module
        if above is None:
            self.modules.set_member(name, module)
        else:
            above.set_member(last, module)
        for below, one in old.members.items() if old else ():
            if not one.is_alias and one.is_module:
                module.set_member(below, one)
        return module

    def open(self, name: str) -> griffe.Module | None:
        """Return a module by its name; None if the library has none."""
        if name not in self.visited:
            file = self.find_file(name)
            self.visited[name] = None  # also while it is being visited
            if file is not None:
                self.visited[name] = self.add(name, file.read_text("utf-8", "replace"))
        return self.visited[name]

    def find_file(self, name: str) -> Path | None:
        """Return the file of a module; None if there is none."""
        if self.root is None or not re.fullmatch(r"\w+(\.\w+)*", name):
            return None
        path = self.root.joinpath(*name.split("."))
        files = (path / "__init__.py", path.with_suffix(".py"))
        return next((file for file in files if file.is_file()), None)

    def is_package(self, name: str) -> bool:
        """Has a module others below it?"""
        file = self.find_file(name)
        return file is not None and file.name == "__init__.py"

    def find(self, path: str) -> griffe.Object | None:
        """Return what a dotted path leads to, through imports; None outside."""
        found = self.follow(path, frozenset())
        return found if isinstance(found, griffe.Object) else None

    def follow(self, path: str, seen: frozenset[str]) -> Found | None:
        """Return what a path leads to; None if there is nothing, or only a circle."""
        module, rest = self.split(path)
        if module is None or path in seen:
            return None if module else path
        found: Found | None = module
        for part in rest:
            if isinstance(found, str):
                found = f"{found}.{part}"
            elif found is not None:
                found = self.member(found, part, seen | {path})
        return found

    def split(self, path: str) -> tuple[griffe.Module | None, list[str]]:
        """Return the module that a path begins with, and the rest of the path."""
        parts = path.split(".")
        for count in range(len(parts), 0, -1):
            if module := self.open(".".join(parts[:count])):
                return module, parts[count:]
        return None, []

    def member(
        self, scope: griffe.Object, name: str, seen: frozenset[str] = frozenset()
    ) -> Found | None:
        """Return a member of a module or class: its own, imported or inherited."""
        if name in scope.members:
            one = scope.members[name]
            if isinstance(one, griffe.Alias):  # whose lines are not to be asked for
                return self.follow(one.target_path, seen)
            return one
        if isinstance(scope, griffe.Class):
            bases = (base for base in self.bases(scope) if base.path not in seen)
            ways = (self.member(base, name, seen | {base.path}) for base in bases)
        else:
            stars = (star for star in stars_of(scope) if self.open(star))
            ways = (self.follow(f"{star}.{name}", seen) for star in stars)
        return next((one for one in ways if one is not None), None)

    def meaning(self, name: str, scope: griffe.Object) -> str:
        """Return the dotted path that a name, which may be dotted, stands for.

        Nothing for a name that is bound nowhere; a builtin is its own path.
        """
        first, _, rest = name.partition(".")
        path = self.look_up(first, scope)
        full = f"{path}.{rest}" if rest and path else path
        found = self.follow(full, frozenset()) if "." in full else None
        return found.path if isinstance(found, griffe.Object) else found or full

    def look_up(self, name: str, scope: griffe.Object | None) -> str:
        """Return what a name without dots stands for where it is written."""
        while scope is not None:
            if name in scope.members:
                one = scope.members[name]
                return one.target_path if isinstance(one, griffe.Alias) else one.path
            if scope.is_module:
                return self.pass_on(name, scope)
            scope = scope.parent
        return name if hasattr(builtins, name) else ""

    def pass_on(self, name: str, module: griffe.Object) -> str:
        """Return what a name that a module does not bind itself stands for there."""
        if (path := self.passed_on.get((module.path, name))) is None:
            found = self.member(module, name)
            path = name if hasattr(builtins, name) else ""
            if found is not None:
                path = found if isinstance(found, str) else found.path
            self.passed_on[module.path, name] = path
        return path

    def bases(self, one: griffe.Class) -> list[griffe.Class]:
        """Return the bases of a class that the library knows."""
        scope = one.parent or one
        if one.path in self.pending:  # as of `class A(A.B)`
            return []
        self.pending.add(one.path)
        names = (str(base).partition("[")[0] for base in one.bases)
        paths = (self.meaning(name, scope) for name in names)
        found = [self.find(path) for path in paths if "." in path]
        self.pending.discard(one.path)
        return [base for base in found if isinstance(base, griffe.Class)]

    def ancestors(self, one: griffe.Class) -> list[griffe.Class]:
        """Return a class and those it inherits from, in the order Python looks."""
        found: dict[str, griffe.Class] = {}

        def order(one: griffe.Class, seen: frozenset[str]) -> list[str]:
            found[one.path] = one
            bases = [base for base in self.bases(one) if base.path not in seen]
            orders = [order(base, seen | {base.path}) for base in bases]
            paths = [base.path for base in bases]
            try:
                return [one.path, *griffe.c3linear_merge(*orders, paths)]
            except ValueError:  # Python refuses this class
                return [
                    one.path,
                    *dict.fromkeys(path for all in orders for path in all),
                ]

        return [found[path] for path in order(one, frozenset([one.path]))]


# %% visit
def visit(name: str, file: str, text: str, **more: Any) -> griffe.Module:
    """Visit the text of a module; one that does not compile has no members."""
    extensions = griffe.load_extensions(NodeKeeper)
    with griffe.logger.disable():  # what it does not understand is left as text
        try:
            return griffe.visit(name, Path(file), text, extensions=extensions, **more)
        except (SyntaxError, ValueError, RecursionError):
            return griffe.visit(name, Path(file), "", extensions=extensions, **more)


# %% find_names
def find_names(
    types: Iterable[str], scope: griffe.Object, library: Library
) -> dict[str, str]:
    """Return the dotted names in types as written there, with what they stand for."""
    found = {}
    for shown in types:
        code = re.sub(r"\bLiteral\[[^]]*\]", "Literal", shown)
        for name in re.findall(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*", code):
            if name not in found and (path := library.meaning(name, scope)):
                found[name] = path
    return found
