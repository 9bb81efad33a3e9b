# Exported from nbs/06b_examples.ipynb. Edit either side, then run `litml sync`.
"""Find tests that can stand beside what they test."""

import ast
import builtins
import importlib.util
import symtable
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from litml.cells import parse_code
from litml.pieces import cut

__all__ = ["find_examples"]


# ## Reading a test file
# %% read_imports
def read_imports(body: Iterable[ast.stmt]) -> dict[str, str]:
    """Return the absolute imports among statements, by the name that each binds."""
    found = {}
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                one: ast.stmt = ast.Import([alias])
                if isinstance(node, ast.ImportFrom):
                    one = ast.ImportFrom(node.module, [alias], node.level)
                if not getattr(node, "level", 0):
                    name = alias.asname or alias.name.split(".")[0]
                    found[name] = ast.unparse(one)
    return found


# %% free_names
def free_names(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the global names that a function, or one inside it, uses."""
    for symbol in table.get_symbols():
        if symbol.is_global():
            yield symbol.get_name()
    for inner in table.get_children():
        yield from free_names(inner)


# %% Example
@dataclass(frozen=True, slots=True)
class Example:
    """A test that can stand alone: its name, its cell, and the names it imports."""

    name: str
    cell: str
    imports: frozenset[str]


# %% read_tests
def read_tests(raw: bytes) -> Iterator[Example]:
    """Yield the tests of a file that can stand alone; none if it is not Python."""
    try:
        text = importlib.util.decode_source(raw)
        body = parse_code(text).body
        table = symtable.symtable(text, "tests", "exec")
    except (SyntaxError, ValueError):
        return
    imports = read_imports(body)
    free = {one.get_name(): set(free_names(one)) for one in table.get_children()}
    for node in body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test"):
            continue
        names = free[node.name] - set(dir(builtins))
        alone = not (node.decorator_list or ast.unparse(node.args))
        if alone and names <= imports.keys():
            head = "\n".join(dict.fromkeys(imports[name] for name in sorted(names)))
            code = ast.get_source_segment(text, node) or ""
            cell = f"{head}\n\n\n{code}\n\n\n{node.name}()".strip()
            yield Example(node.name, cell, frozenset(names))


# ## Finding their places
# %% place_examples
def place_examples(
    examples: Iterable[Example], definitions: Mapping[str, str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return cells by module and definition.

    `definitions` are the modules' paths by what they define.
    """
    placed: dict[str, dict[str, tuple[str, ...]]] = {}
    for example in examples:
        used = example.imports & definitions.keys()
        words = example.name.lower().replace("_", "")
        named = [name for name in used if name.lower().replace("_", "") in words]
        best = sorted(named, key=len)[-1:] or list(used)
        if len(best) == 1:
            cells = placed.setdefault(definitions[best[0]], {})
            cells[best[0]] = (*cells.get(best[0], ()), example.cell)
    return placed


# %% find_examples
def find_examples(
    folder: Path, modules: Mapping[str, str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return cells made of the tests below `folder`, by module and definition.

    `modules` are the texts of the modules by path.
    """
    owners: dict[str, list[str]] = {}
    for path, text in modules.items():
        for piece in cut(text):
            for name in piece.names:
                owners.setdefault(name, []).append(path)
    unique = {name: paths[0] for name, paths in owners.items() if len(paths) == 1}
    found: list[Example] = []
    for file in sorted(folder.rglob("*.py")):
        if file.name.startswith("test") or file.stem.endswith("test"):
            found += read_tests(file.read_bytes())
    return place_examples(found, unique)
