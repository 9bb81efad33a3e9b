# Exported from nbs/04b_patch.ipynb. Edit either side, then run `litml sync`.
"""Show a class whole where later cells add methods to it."""

import ast
import builtins
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from litml.cells import parse_code
from litml.export import Chunk

__all__ = ["grow_classes", "ADDED", "ungrow", "trace_line"]


# ## Reading a patch
# %% Patch
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Patch:
    """A function that is added to classes: their names, its own, and its role.

    `role` is the option that is set, such as `as_prop`, or empty. `inner` are the
    decorators below `@patch`, which change the function before it is added.
    """

    owners: tuple[str, ...]
    name: str
    role: str
    node: Function
    inner: tuple[ast.expr, ...]
    chunk: Chunk


# %% read_patch
ROLES = ("as_prop", "set_prop", "cls_method", "static_method")


def read_patch(node: ast.stmt, chunk: Chunk) -> Patch | None:
    """Read a statement as a patch; None if it is something else."""
    if not isinstance(node, Function):
        return None
    for i, decorator in enumerate(node.decorator_list):
        call = decorator if isinstance(decorator, ast.Call) else None
        called = call.func if call else decorator
        kind = getattr(called, "attr", getattr(called, "id", ""))
        options = {one.arg: one.value for one in call.keywords} if call else {}
        is_set = {name for name, value in options.items() if not is_false(value)}
        role = next((name for name in ROLES if name in is_set), "")
        target = None
        if options.keys() - {*ROLES, "nm", "glb"}:
            continue  # some other `patch`, such as that of a web framework
        if kind == "patch" and not (call and call.args):
            target = first_annotation(node)
        elif kind == "patch_to" and call and call.args:
            target = call.args[0]
        if target is not None:
            name = getattr(options.get("nm"), "value", node.name)
            inner = tuple(node.decorator_list[i + 1 :])
            return Patch(tuple(list_owners(target)), name, role, node, inner, chunk)
    return None


# %% is_false
def is_false(node: ast.expr) -> bool:
    """Is it the word `False`?"""
    return isinstance(node, ast.Constant) and node.value is False


def first_annotation(node: Function) -> ast.expr | None:
    """Return the annotation that says which class a patched function is for."""
    found = [one.annotation for one in [*node.args.posonlyargs, *node.args.args]]
    return next((one for one in found if one is not None), None)


# %% list_owners
def list_owners(target: ast.expr) -> Iterator[str]:
    """Yield the classes that a target names: `A`, `"A"`, `A | B` or `(A, B)`."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Constant) and isinstance(target.value, str):
        if target.value.isidentifier():
            yield target.value
    elif isinstance(target, ast.BinOp):
        yield from [*list_owners(target.left), *list_owners(target.right)]
    elif isinstance(target, ast.Tuple | ast.List):
        for one in target.elts:
            yield from list_owners(one)
    elif isinstance(target, ast.Subscript):  # Union[A, B]
        yield from list_owners(target.slice)


# ## What may be said inside the class
# %% Scope
@dataclass(frozen=True, slots=True)
class Scope:
    """The names that mean something else inside a class than below it.

    `late` are bound later in the module, `own` by the class. With `lazy`, annotations
    are not evaluated, so that late names need no quotes.
    """

    late: frozenset[str]
    own: frozenset[str]
    lazy: bool = False


# %% show_annotation
def show_annotation(node: ast.expr | None, source: str, scope: Scope) -> str:
    """Return an annotation as it can stand in the class, or nothing for None."""
    if node is None:
        return ""
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    text = ast.get_source_segment(source, node) or ""
    text = ast.unparse(node) if "\n" in text else text
    if names & scope.own or (names & scope.late and '"' in text):
        return "Any"
    return f'"{text}"' if names & scope.late and not scope.lazy else text


# %% show_default
def show_default(node: ast.expr, source: str) -> str:
    """Return a default as it can stand in the class."""
    value = node.operand if isinstance(node, ast.UnaryOp) else node
    text = ast.get_source_segment(source, node) or ""
    if not isinstance(value, ast.Constant) or "\n" in text or len(text) > 24:
        return "..."
    if isinstance(value.value, str) and '"' not in value.value:
        return json.dumps(value.value, ensure_ascii=False)
    return text


# %% list_parameters
def list_parameters(patch: Patch, scope: Scope) -> list[str]:
    """Return the parameters of a patch, as they can stand in the class."""
    args, source = patch.node.args, patch.chunk.code
    plain = [*args.posonlyargs, *args.args]
    gap = len(plain) - len(args.defaults)
    defaults = [None] * gap + list(args.defaults)

    def show(one: ast.arg, default: ast.expr | None = None, stars: str = "") -> str:
        owner = plain and one is plain[0] and patch.role != "static_method"
        said = "" if owner else show_annotation(one.annotation, source, scope)
        text = f"{stars}{one.arg}: {said}" if said else f"{stars}{one.arg}"
        equals = " = " if said else "="
        return text + (f"{equals}{show_default(default, source)}" if default else "")

    shown = [show(one, default) for one, default in zip(plain, defaults, strict=True)]
    if args.posonlyargs:
        shown.insert(len(args.posonlyargs), "/")
    if args.vararg:
        shown.append(show(args.vararg, stars="*"))
    elif args.kwonlyargs:
        shown.append("*")
    pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    shown += [show(one, default) for one, default in pairs]
    return [*shown, show(args.kwarg, stars="**")] if args.kwarg else shown


# %% show_method
def show_method(patch: Patch, scope: Scope) -> list[str]:
    """Return the lines that declare a patch in its class, not yet indented."""
    if any(names_in(one) & (scope.late | scope.own) for one in patch.inner):
        return [f"{patch.name}: Any"]
    source = patch.chunk.code
    result = show_annotation(patch.node.returns, source, scope) or "Any"
    result = "None" if patch.role == "set_prop" else result
    inner = [f"@{ast.get_source_segment(source, one)}" for one in patch.inner]
    words = "async def" if is_coroutine(patch.node) else "def"
    kinds = type_parameters(patch.node, source)
    parameters = list_parameters(patch, scope)
    head = f"{words} {patch.name}{kinds}({', '.join(parameters)}) -> {result}:"
    lines = [head]
    if len(head) > 79 - 12:
        rows = [f"    {one}," for one in parameters]
        lines = [f"{words} {patch.name}{kinds}(", *rows, f") -> {result}:"]
    docstring = (ast.get_docstring(patch.node) or "").partition("\n")[0]
    if docstring and not {'"', "\\"} & set(docstring):
        lines += [f'    """{docstring}"""', "    ..."]
    else:
        lines[-1] += " ..."
    return [*name_role(patch), *"\n".join(inner).splitlines(), *lines]


# %% name_role
def name_role(patch: Patch) -> list[str]:
    """Return the decorator that does in the class what the option of a patch does."""
    words = {
        "as_prop": "@property",
        "set_prop": f"@{patch.name}.setter",
        "cls_method": "@classmethod",
        "static_method": "@staticmethod",
    }
    return [words[patch.role]] if patch.role else []


def type_parameters(node: Function, source: str) -> str:
    """Return the type parameters of a function, in brackets, if it has some."""
    found = getattr(node, "type_params", [])  # from Python 3.12 on
    shown = [ast.get_source_segment(source, one) or "" for one in found]
    return f"[{', '.join(shown)}]" if shown else ""


def is_coroutine(node: Function) -> bool:
    """Is calling it awaited? That of an asynchronous generator is not."""
    return isinstance(node, ast.AsyncFunctionDef) and not has_yield(node)


def has_yield(node: ast.AST) -> bool:
    """Is there a `yield` that belongs to this function?"""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(inner, Function | ast.Lambda) and has_yield(inner):
            return True
    return False


def names_in(node: ast.expr) -> set[str]:
    """Return the names that an expression uses."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


# ## Which classes grow
# %% Grown
@dataclass(slots=True)
class Grown:
    """A class, the cell it stands in, and the patches that add to it, by name.

    `line` is where the cell's code begins in the module; `before` are the names bound
    above the class, `own` those it binds itself.
    """

    node: ast.ClassDef
    chunk: Chunk
    line: int
    before: frozenset[str]
    own: frozenset[str]
    methods: dict[str, list[Patch]]

    def add(self, patch: Patch) -> None:
        """Add a patch; of several for one name the last counts, but for setters."""
        same = self.methods.get(patch.name, [])
        if patch.role == "set_prop":
            same[1:] = [patch] if same and same[0].role == "as_prop" else []
        elif patch.name not in self.own:
            self.methods[patch.name] = [patch]


# %% find_grown
def find_grown(starts: Sequence[tuple[int, Chunk]]) -> list[Grown]:
    """Return the classes of a module that patches add to, in the module's order."""
    classes: dict[str, Grown] = {}
    bound = set(dir(builtins))
    for index, (line, chunk) in enumerate(starts):
        for node in parse_code(chunk.code).body:
            if isinstance(node, ast.ClassDef) and index >= count_top(starts):
                own = frozenset(name for one in node.body for name in names_bound(one))
                if node.body[0].lineno > node.lineno:
                    grown = Grown(node, chunk, line, frozenset(bound), own, {})
                    classes[node.name] = grown
            elif patch := read_patch(node, chunk):
                for owner in classes.keys() & set(patch.owners):
                    classes[owner].add(patch)
            bound |= names_bound(node)
    return [one for one in classes.values() if any(one.methods.values())]


# %% count_top
FUTURE = re.compile(r"^from __future__ import", re.MULTILINE)


def count_top(starts: Sequence[tuple[int, Chunk]]) -> int:
    """Return how many cells stand above everything else: docstring and imports."""
    top = 0
    for index, (_, chunk) in enumerate(starts):
        first = chunk.is_docstring or FUTURE.search(chunk.code)
        if not (chunk.is_imports or (index == 0 and first)):
            break
        top += 1
    return top


# %% names_bound
def names_bound(node: ast.stmt) -> set[str]:
    """Return the names that a statement binds where it stands, inside blocks too."""
    if isinstance(node, Function | ast.ClassDef):
        return {node.name}
    found: set[str] = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            found.add(one.id)
        elif isinstance(one, ast.alias):
            found.add((one.asname or one.name).partition(".")[0])
        elif isinstance(one, ast.ImportFrom) and one.module == "typing":
            found |= {"Any", "TYPE_CHECKING"} if one.names[0].name == "*" else set()
        elif isinstance(one, Function | ast.ClassDef):
            found.add(one.name)
    return found


# ## The block
# %% Insert
@dataclass(frozen=True, slots=True)
class Insert:
    """Lines to be put below the line `below` of a module, which counts from 1.

    `places` are cells that the lines speak of, each from a line of the block on.
    """

    below: int
    lines: tuple[str, ...]
    places: tuple[tuple[int, Chunk], ...] = ()


# %% make_block
BLOCK = "if TYPE_CHECKING:  # grown in later cells"


def make_block(grown: Grown, bound: set[str], lazy: bool) -> Insert:
    """Return the block of a class in a module that binds the names `bound`."""
    late = frozenset(bound - grown.before)
    scope = Scope(late, grown.own | grown.methods.keys(), lazy)
    lines, places, was_short = ["", BLOCK], [], False
    for patch in [one for same in grown.methods.values() for one in same]:
        method = show_method(patch, scope)
        is_short = len(method) == 1 and method[0].endswith("...")
        lines += [] if is_short and was_short else [""]
        was_short = is_short
        line = patch.chunk.line + patch.node.lineno - 1
        places.append((len(lines) + 1, replace(patch.chunk, line=line)))
        lines += [f"    {one}" for one in method]
    code = grown.chunk.code.split("\n")
    first = grown.node.body[0]
    indent = code[first.lineno - 1][: first.col_offset]
    end = grown.node.end_lineno or grown.node.lineno
    rest = replace(grown.chunk, line=grown.chunk.line + end)
    return Insert(
        grown.line + end - 1,
        tuple(f"{indent}{line}" if line else "" for line in lines),
        (*places, (len(lines) + 1, rest)),
    )


# %% make_frame
FRAME = "TYPE_CHECKING = False  # for grown classes"
FRAME_ANY = ("if TYPE_CHECKING:  # for grown classes", "    from typing import Any")


def make_frame(
    text: str, starts: Sequence[tuple[int, Chunk]], blocks: Iterable[Insert]
) -> Insert:
    """Return what stands above all classes: the names that the blocks use."""
    top = starts[: count_top(starts)]
    trees = [parse_code(chunk.code) for _, chunk in top]
    bound = {name for tree in trees for one in tree.body for name in names_bound(one)}
    said = "\n".join(line for block in blocks for line in block.lines)
    lines = [] if "TYPE_CHECKING" in bound else [FRAME]
    if re.search(r"\bAny\b", said) and "Any" not in bound:
        lines += FRAME_ANY
    if top:
        below = top[-1][0] + top[-1][1].code.count("\n")
    else:
        tree = parse_code(text)
        title = tree.body[0] if ast.get_docstring(tree) is not None else None
        below = (title and title.end_lineno) or 1
    return Insert(below, ("", *lines) if lines else ())


# ## Putting it in, and taking it out
# %% grow_classes
def grow_classes(
    text: str, starts: Sequence[tuple[int, Chunk]]
) -> tuple[str, list[tuple[int, Chunk]]]:
    """Return a module's text with its classes whole, and the places of its lines.

    `starts` says at which line of the text each cell's code begins; so does the list
    that is returned, in which a cell can occur more than once.
    """
    grown = find_grown(starts) if "patch" in text else []
    if not grown:
        return text, list(starts)
    codes = [chunk.code for _, chunk in starts]
    bound = {
        name
        for code in codes
        for one in parse_code(code).body
        for name in names_bound(one)
    }
    lazy = any("annotations" in line for code in codes for line in find_future(code))
    blocks = [make_block(one, bound, lazy) for one in grown]
    frame = make_frame(text, starts, blocks)
    return insert(text, starts, sorted([frame, *blocks], key=lambda one: one.below))


# %% find_future
def find_future(code: str) -> list[str]:
    """Return the lines of code that import from `__future__`."""
    return [line for line in code.split("\n") if FUTURE.match(line)]


def insert(
    text: str, starts: Iterable[tuple[int, Chunk]], inserts: Iterable[Insert]
) -> tuple[str, list[tuple[int, Chunk]]]:
    """Put lines into a text, the inserts being in order, and move its places along."""
    lines = text.split("\n")
    result: list[str] = []
    places = list(starts)
    found: list[tuple[int, Chunk]] = []
    done = 0
    for one in inserts:
        found += [
            (n + len(result) - done, c) for n, c in places if done < n <= one.below
        ]
        result += lines[done : one.below]
        found += [(n + len(result), chunk) for n, chunk in one.places]
        result += one.lines
        done = one.below
    found += [(n + len(result) - done, c) for n, c in places if done < n]
    return "\n".join([*result, *lines[done:]]), found


# %% Ungrown
@dataclass(frozen=True, slots=True)
class Ungrown:
    """A module's text without its blocks, and the blocks.

    `lines` are the lines of the grown text, from 1, that are still there.
    """

    text: str
    lines: tuple[int, ...]
    blocks: tuple[str, ...]


# %% ungrow
ADDED = re.compile(
    r"TYPE_CHECKING = False  # for grown classes"
    r"|([ \t]*)if TYPE_CHECKING:  # (?:for grown classes|grown in later cells)"
)


def ungrow(text: str) -> Ungrown:
    """Take out of a module's text what `grow_classes` puts into it."""
    lines = text.split("\n")
    kept: list[int] = []
    blocks: list[str] = []
    at = 0
    while at < len(lines):
        end = find_end(lines, at)
        if end == at:
            kept.append(at + 1)
            end += 1
        else:
            blocks.append("\n".join(lines[at:end]))
            if kept and not lines[kept[-1] - 1]:
                kept.pop()
        at = end
    left = "\n".join(lines[number - 1] for number in kept)
    return Ungrown(left, tuple(kept), tuple(blocks))


# %% find_end
def find_end(lines: list[str], at: int) -> int:
    """Return where the block ends that begins at an index; the index if none does."""
    match = ADDED.fullmatch(lines[at])
    if not match:
        return at
    end = at + 1
    for i in range(at + 1, len(lines)) if match[1] is not None else ():
        if lines[i].strip() and not re.match(rf"{match[1]}[ \t]", lines[i]):
            break
        end = i + 1 if lines[i].strip() else end
    return end


# ## Which cell a line means
# %% trace_line
def trace_line(text: str, line: int) -> tuple[str, int]:
    """Return a text without its blocks, and which of its lines a line stands for.

    A line of a block stands for the definition of the method that it declares.
    """
    ungrown = ungrow(text)
    above = bisect_right(ungrown.lines, line)
    if above and ungrown.lines[above - 1] != line:
        name = find_declared(text.split("\n"), line)
        found = re.search(rf"(?m)^(?:async )?def {name or '-'}\b", ungrown.text)
        above = ungrown.text.count("\n", 0, found.start()) + 1 if found else above
    return ungrown.text, max(above, 1)


# %% find_declared
def find_declared(lines: list[str], line: int) -> str:
    """Return the method that a line of a block belongs to; nothing for its first."""
    step = 1 if lines[line - 1].lstrip().startswith("@") else -1
    while 0 < line <= len(lines) and not ADDED.fullmatch(lines[line - 1]):
        declared = r"\s+(?:async )?def (\w+)|\s+(\w+): Any"
        if match := re.match(declared, lines[line - 1]):
            return match[1] or match[2]
        line += step
    return ""
