"""Make the inventories that litml brings along: Python, NumPy and PyTorch.

    pip install nbdev-stdlib==0.0.2404 nbdev-numpy==0.0.2386 nbdev-pytorch==0.0.2385
    python make_inventories.py --python-inventory OBJECTS_INV FOLDER

Nothing is fetched here. Three packages on PyPI hold, for nbdev, what was in the
`objects.inv` of the three projects when they were built; OBJECTS_INV is that of the
documentation of Python as Debian packages it (`python3.11-doc`), which names builtins
and data, too. An address is taken over if

- NumPy, PyTorch: the name still exists in the release that is installed here;
- Python: it stands in `nbdev-stdlib`, or in OBJECTS_INV on a page that still exists
  there, so that modules that were removed since are left out.

The scalar types and `numpy.typing` are not in `nbdev-numpy`; their two pages are.
"""

import argparse
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from litml.inventory import Entry, read_inventory, write_inventory

SCALARS = "reference/arrays.scalars.html#$"
TYPING = "reference/typing.html#$"


def indexed(package: str, base: str) -> Iterator[tuple[str, str]]:
    """Yield names and places below `base` from one of nbdev's indexes."""
    index = importlib.import_module(f"{package}._modidx").d
    for symbols in index["syms"].values():
        for name, url in symbols.items():
            if url.startswith(base):
                name = name.removeprefix("builtins.")
                yield name, url.removeprefix(base)


def find_role(path: str) -> str:
    """Return the role of what is installed under a dotted path, or nothing."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except Exception:
            continue
        owner = found
        try:
            for part in parts[count:]:
                owner, found = found, getattr(found, part)
        except Exception:
            return ""
        return role_of(found, inspect.isclass(owner))
    return ""


def role_of(found: object, in_class: bool) -> str:
    """Return the role that Sphinx gives to such a thing."""
    if inspect.ismodule(found):
        return "py:module"
    if inspect.isclass(found):
        return "py:exception" if issubclass(found, BaseException) else "py:class"
    if callable(found):
        return "py:method" if in_class else "py:function"
    return "py:attribute" if in_class else "py:data"


def installed(names: Iterator[tuple[str, str]]) -> list[Entry]:
    """Return the entries of names that exist in what is installed here."""
    roles = ((name, find_role(name), place) for name, place in names)
    return [Entry(name, role, place) for name, role, place in roles if role]


def numpy_extras() -> Iterator[tuple[str, str]]:
    """Yield the scalar types, and the names of `numpy.typing`."""
    import numpy
    import numpy.typing

    for name in sorted({one.__name__ for one in numpy.sctypeDict.values()}):
        yield f"numpy.{name}", SCALARS
    for name in ("generic", "number", "integer", "floating", "inexact"):
        yield f"numpy.{name}", SCALARS
    for name in numpy.typing.__all__:
        yield f"numpy.typing.{name}", TYPING


def python_entries(file: Path, base: str) -> list[Entry]:
    """Return the entries of Python."""
    newer = dict(indexed("nbdev_stdlib", base))
    pages = {place.partition("#")[0] for place in newer.values()}
    older = read_inventory(file.read_bytes(), file.name)
    roles = {one.name: one.role for one in older if one.role.startswith("py:")}
    entries = [
        Entry(name, roles.get(name) or find_role(name) or "py:function", place)
        for name, place in newer.items()
    ]
    page = "library/functions.html library/stdtypes.html library/exceptions.html"
    pages |= set(page.split()) | {"library/typing.html", "library/constants.html"}
    for one in older:
        is_kept = one.role.startswith("py:") and one.place.partition("#")[0] in pages
        if is_kept and one.name not in newer:
            entries.append(one)
    return entries


def main() -> None:
    """Write the three inventories."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python-inventory", type=Path, required=True)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    python = "https://docs.python.org/3/"
    numpy = [
        *indexed("nbdev_numpy", "https://numpy.org/doc/stable/"),
        *numpy_extras(),
    ]
    torch = indexed("nbdev_pytorch", "https://pytorch.org/docs/stable/")
    made = {
        "python": python_entries(arguments.python_inventory, python),
        "numpy": installed(iter(numpy)),
        "torch": installed(torch),
    }
    for name, entries in made.items():
        unique = {(one.name, one.role): one for one in entries}
        raw = write_inventory(unique.values(), name, "")
        (arguments.folder / f"{name}.inv").write_bytes(raw)
        print(f"{name}: {len(unique)} names, {len(raw)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
