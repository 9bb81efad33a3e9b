# Exported from nbs/15d_docments.ipynb. Edit either side, then run `litml sync`.
"""What a definition says of its parameters: comments beside them, `Annotated`,
docstrings.
"""

import ast
import inspect
import re
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import StringIO

import griffe

__all__ = [
    "Comment",
    "read_comments",
    "Function",
    "describe_parameters",
    "find_comment",
    "describe_annotated",
    "bare_type",
    "Docstring",
    "parse_docstring",
]


# ## Comments
# %% read_comments
@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, and whether it has its line to itself."""

    text: str
    is_alone: bool


def read_comments(text: str, first: int = 1) -> dict[int, Comment]:
    """Return the comments of Python code by line; its first line is line `first`."""
    found = {}
    with suppress(tokenize.TokenError, SyntaxError):  # a head without its body
        for token in tokenize.generate_tokens(StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                is_alone = not token.line[: token.start[1]].strip()
                line = first + token.start[0] - 1
                found[line] = Comment(token.string.lstrip("#").strip(), is_alone)
    return found


# %% describe_parameters
Function = ast.FunctionDef | ast.AsyncFunctionDef


def describe_parameters(
    node: Function | ast.ClassDef, lines: list[str]
) -> dict[str, str]:
    """Return what comments say of parameters, or a class's fields, by their names.

    What is returned is described under the name `return`.
    """
    places = list_places(node)
    if not places:
        return {}
    first = node.lineno
    last = max(end for _, _, end in places)
    head = lines[first - 1 : last]
    if not any("#" in line for line in head):
        return {}
    comments = read_comments("\n".join([*head, ""]), first)
    found = {}
    for index, (name, start, end) in enumerate(places):
        is_last = start not in [line for _, line, _ in places[index + 1 :]]
        if is_last and (text := find_comment(comments, start, end)):
            found[name] = text
    return found


def find_comment(comments: Mapping[int, Comment], start: int, end: int) -> str:
    """Return the comment of a parameter that reaches from one line to another."""
    if start in comments:
        return comments[start].text
    above = []
    line = start - 1
    while line in comments and comments[line].is_alone:
        above.append(comments[line].text)
        line -= 1
    if above:
        return "\n".join(reversed(above))
    is_beside = end in comments and not comments[end].is_alone
    return comments[end].text if is_beside else ""


# %% list_places
def list_places(node: Function | ast.ClassDef) -> list[tuple[str, int, int]]:
    """Return names, first and last lines of parameters or fields, in their order."""
    if isinstance(node, ast.ClassDef):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        return [
            (one.target.id, one.lineno, one.end_lineno or one.lineno)
            for one in fields
            if isinstance(one.target, ast.Name)
        ]
    args = node.args
    plain = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    found = [one for one in [*plain, args.vararg, args.kwarg] if one is not None]
    defaults = {id(arg): default for arg, default in pair_defaults(args)}
    places = []
    for arg in sorted(found, key=lambda one: (one.lineno, one.col_offset)):
        last = defaults.get(id(arg)) or arg
        places.append((arg.arg, arg.lineno, last.end_lineno or arg.lineno))
    if node.returns is not None:
        end = node.returns.end_lineno or node.returns.lineno
        places.append(("return", node.returns.lineno, end))
    return places


def pair_defaults(args: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr]]:
    """Yield each parameter that has a default, with it."""
    plain = [*args.posonlyargs, *args.args]
    yield from zip(plain[len(plain) - len(args.defaults) :], args.defaults, strict=True)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if default is not None:
            yield arg, default


# ## Annotated
# %% describe_annotated
def describe_annotated(annotation: ast.expr | None) -> str:
    """Return the first string of `Annotated[…]`, or nothing for another annotation."""
    if not isinstance(annotation, ast.Subscript):
        return ""
    name = getattr(annotation.value, "attr", getattr(annotation.value, "id", ""))
    if name != "Annotated" or not isinstance(annotation.slice, ast.Tuple):
        return ""
    values = (getattr(one, "value", None) for one in annotation.slice.elts[1:])
    return next((one for one in values if isinstance(one, str)), "")


# %% bare_type
def bare_type(annotation: ast.expr | None) -> ast.expr | None:
    """Return the type inside `Annotated`, if all else that it says are strings."""
    if not isinstance(annotation, ast.Subscript) or not describe_annotated(annotation):
        return annotation
    parts: list[ast.expr] = getattr(annotation.slice, "elts", [])
    is_plain = all(isinstance(getattr(one, "value", None), str) for one in parts[1:])
    return parts[0] if is_plain else annotation


# ## Docstrings
# %% parse_docstring
@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring: Markdown, and what it says of parameters, attributes, the result.

    `types` are annotations that stand in the docstring, by name; that of the result
    has the name `return`.
    """

    text: str
    described: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


def parse_docstring(text: str) -> Docstring:
    """Read a docstring in the style it keeps: Google, NumPy, Sphinx, or none."""
    text = inspect.cleandoc(text)
    docstring = griffe.Docstring(f"\n{text}\n")  # sections are looked for in between
    style, _ = griffe.infer_docstring_style(docstring)
    if style is None or not text:
        return Docstring(text)
    described: dict[str, str] = {}
    types: dict[str, str] = {}
    parts = []
    for section in griffe.parse(docstring, style, warnings=False):
        if section.kind.value in TAKEN:
            for name, said, kind in list_entries(section):
                described[name] = said
                types |= {name: kind} if kind else {}
        else:
            parts.append(show_section(section).strip("\n"))
    return Docstring("\n\n".join(filter(None, parts)), described, types)


# %% list_entries
TAKEN = ("parameters", "other parameters", "attributes", "returns", "yields")


def list_entries(section: griffe.DocstringSection) -> Iterator[tuple[str, str, str]]:
    """Yield name, description and type of what a section describes."""
    is_result = section.kind.value in ("returns", "yields")
    if is_result and len(section.value) > 1:
        said = [f"- {show_entry(one)}" for one in section.value]
        yield "return", "\n".join(said), ""
        return
    for one in section.value:
        name = "return" if is_result else one.name.lstrip("*")
        yield name, inspect.cleandoc(one.description), str(one.annotation or "")


# %% show_section
def show_section(section: griffe.DocstringSection) -> str:
    """Return a section of a docstring as Markdown."""
    kind, value = section.kind.value, section.value
    if kind == "text":
        return str(value)
    title = section.title or kind.capitalize()
    if kind == "admonition":
        body = f"**{title}**\n\n{value.description}"
        return re.sub(r"(?m)^(?=.)|^$", "> ", body).replace("> \n", ">\n")
    if kind == "examples":
        shown = [show_example(style.value, text) for style, text in value]
        return "\n\n".join([f"**{title}**", *shown])
    entries = value if isinstance(value, list) else [value]
    return "\n".join([f"**{title}**", "", *(f"- {show_entry(one)}" for one in entries)])


def show_example(kind: str, text: str) -> str:
    """Return prose as it is, a session of the interpreter as a block of code."""
    return f"```pycon\n{text}\n```" if kind == "examples" else text


def show_entry(entry: object) -> str:
    """Return one entry of a section: its name, its type, what is said of it."""
    name, kind = getattr(entry, "name", ""), getattr(entry, "annotation", None)
    said = getattr(entry, "description", "").replace("\n", "\n  ")
    head = ": ".join(f"`{one}`" for one in (name, kind) if one)
    return f"{head}: {said}" if head and said else head or said
