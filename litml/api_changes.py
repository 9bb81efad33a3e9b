# Exported from nbs/15l_api_changes.ipynb. Edit either side, then run `litml sync`.
"""What users of a package have to change, and what is new, between two revisions."""

import io
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import griffe

from litml.cards import glance
from litml.git import GitError, run_git
from litml.library import Library
from litml.notebook import LitmlError
from litml.page import Page, Prose, Symbol
from litml.symbols import read_symbols

__all__ = [
    "ApiChangesError",
    "unpack_revision",
    "Break",
    "ApiChanges",
    "compare_folders",
    "load",
    "list_symbols",
    "describe",
    "show",
    "compare_revision",
    "make_changes_page",
    "list_changes",
    "without_members",
    "show_new",
]


# ## A revision
# %% unpack_revision
class ApiChangesError(LitmlError):
    """Two revisions that cannot be compared."""


def unpack_revision(root: Path, package: str, revision: str, folder: Path) -> None:
    """Put the modules of a package at a revision into a folder."""
    commit = find_commit(root, revision)
    if not run_git(root, "ls-tree", "--name-only", commit, "--", f"{package}/"):
        message = f"there is no `{package}/` at {revision}"
        raise ApiChangesError(message, hint="name a revision that has the package")
    raw = run_git(root, "archive", "--format=tar", commit, "--", package)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            data = archive.extractfile(member) if member.isfile() else None
            if data and path.suffix == ".py" and ".." not in path.parts:
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data.read())


# %% find_commit
def find_commit(root: Path, revision: str) -> str:
    """Return the commit that a revision names."""
    name = "--end-of-options", f"{revision}^{{commit}}"
    try:
        return run_git(root, "rev-parse", "--verify", "-q", *name).decode().strip()
    except GitError as error:
        hint = "`git tag` and `git log` tell which there are"
        message = f"git knows no revision `{revision}`"
        raise ApiChangesError(message, hint=hint) from error


# ## Comparing
# %% ApiChanges
@dataclass(frozen=True, slots=True)
class Break:
    """Something that callers have to know: where, and what."""

    path: str
    module: str
    what: str


@dataclass(frozen=True, slots=True)
class ApiChanges:
    """What a package's users may have to change, and what is new to them."""

    breaks: tuple[Break, ...]
    added: tuple[Symbol, ...]


def compare_folders(old: Path, new: Path, package: str) -> ApiChanges:
    """Compare the package in one folder with that in another, at the same path."""
    above, package = PurePosixPath(package).parent, PurePosixPath(package).name
    old, new = old / above, new / above
    before, after = load(old, package), load(new, package)
    with griffe.logger.disable():
        found = list(griffe.find_breaking_changes(before, after))
    breaks = {
        Break(
            one.obj.path.removesuffix(".__init__"), one.obj.module.path, describe(one)
        )
        for one in found
        if one.kind is not griffe.BreakageKind.ATTRIBUTE_CHANGED_VALUE
    }
    known = {symbol.path for symbol in list_symbols(old, package)}
    added = (one for one in list_symbols(new, package) if one.path not in known)
    ordered = sorted(breaks, key=lambda one: (one.module, one.path, one.what))
    return ApiChanges(tuple(ordered), tuple(added))


def load(folder: Path, package: str) -> griffe.Object | griffe.Alias:
    """Read the package in a folder, and not one of that name in the current folder."""
    loader = griffe.GriffeLoader(search_paths=[folder], allow_inspection=False)
    with griffe.logger.disable():
        return loader.load(package, try_relative_path=False)


def list_symbols(folder: Path, package: str) -> Iterator[Symbol]:
    """Yield all public symbols of a package."""
    library = Library(folder)
    for file in sorted((folder / package).rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if not any(part.startswith("_") for part in name.split(".")):
            text = file.read_text("utf-8", errors="replace")
            yield from read_symbols(text, name, library)


def describe(breakage: griffe.Breakage) -> str:
    """Return in words what breaks."""
    what = breakage.kind.value[0].lower() + breakage.kind.value[1:]
    old, new = breakage.old_value, breakage.new_value
    if what.startswith(("parameter", "positional parameter")):
        name = getattr(old, "name", None) or getattr(new, "name", "")
        return what.replace("parameter", f"parameter `{name}`", 1)
    if "type" in what or "base" in what:
        return f"{what}: {show(old)} → {show(new)}"
    return what


def show(value: object) -> str:
    """Return a value of a breakage as code."""
    if isinstance(value, list | tuple):
        return ", ".join(show(one) for one in value) or "nothing"
    return f"`{value}`" if value is not None else "nothing"


# %% compare_revision
def compare_revision(root: Path, package: str, revision: str) -> ApiChanges:
    """Compare a package at a revision with its files as they are.

    `package` is its folder, `zoo` or `src/zoo`. Raises `ApiChangesError` for a revision
    that git does not know, or one that is without the package.
    """
    with tempfile.TemporaryDirectory() as before:
        unpack_revision(root, package, revision, Path(before))
        return compare_folders(Path(before), root, package)


# ## The page
# %% make_changes_page
def make_changes_page(changes: ApiChanges, since: str) -> Page:
    """Return the changes as a page of the site."""
    added = list(without_members(changes.added))
    summary = f"{len(changes.breaks)} that may break callers, {len(added)} new."
    text = "\n".join(list_changes(changes.breaks, added))
    blocks = (Prose("changes", text),) if text else ()
    title = f"API changes since {since}"
    return Page("api-changes", "", "", title, summary, blocks)


def list_changes(breaks: Sequence[Break], added: Sequence[Symbol]) -> Iterator[str]:
    """Yield the lines of the page, by module."""
    modules = {one.module for one in breaks} | {one.module for one in added}
    for module in sorted(modules):
        yield from ("", f"## `{module}`")
        broken = [one for one in breaks if one.module == module]
        yield from ("", "May break callers:", "") if broken else ()
        for one in broken:
            yield f"- `{one.path.removeprefix(f'{module}.')}`: {one.what}"
        news = [one for one in added if one.module == module]
        yield from ("", "New:", "") if news else ()
        yield from (f"- {show_new(one)}" for one in news)


def without_members(symbols: Iterable[Symbol]) -> Iterator[Symbol]:
    """Yield symbols but for those inside a class that is there, too."""
    found = list(symbols)
    paths = {one.path for one in found}
    yield from (one for one in found if one.path.rpartition(".")[0] not in paths)


def show_new(symbol: Symbol) -> str:
    """Return a symbol on one line: how it is called, and what it does."""
    signature, _, said = glance(symbol).partition("\n")
    owner = symbol.name.rpartition(".")[0]
    name = f"{owner}.{signature}" if owner else signature
    return f"`{name}` {said}".rstrip()
