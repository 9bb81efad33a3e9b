"""Comments, annotations and docstrings that describe parameters."""

import ast
import tokenize
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litml.docments import (
    describe_parameters,
    parse_docstring,
    read_comments,
)

ROOT = Path(__file__).parents[1]


def describe(text: str) -> dict[str, str]:
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return describe_parameters(node, text.split("\n"))


# What nbdev's documentation shows, with its meaning -----------------------------------

CASES = {
    "beside": (
        "def f(\n a, # the a\n b=2, # the b\n): pass",
        {"a": "the a", "b": "the b"},
    ),
    "above": (
        "def f(\n # the first,\n # in two lines\n a,\n b): pass",
        {"a": "the first,\nin two lines"},
    ),
    "beside wins": ("def f(\n # above\n a, # beside\n): pass", {"a": "beside"}),
    "last of a line": ("def f(\n a, b, # both\n c): pass", {"b": "both"}),
    "belongs to the lower": ("def f(\n a,\n # of b\n b): pass", {"b": "of b"}),
    "lower, when the upper has one": (
        "def f(\n a, # of a\n # of b\n b): pass",
        {"a": "of a", "b": "of b"},
    ),
    "result": ("def f(a # in\n)->int: # out\n  pass", {"a": "in", "return": "out"}),
    "result beside the last": ("def f(a)->int: # out\n  pass", {"return": "out"}),
    "stars": (
        "def f(\n *a, # many\n **b, # named\n): pass",
        {"a": "many", "b": "named"},
    ),
    "keyword only": ("def f(*,\n a, # k\n): pass", {"a": "k"}),
    "positional only": ("def f(\n a, # p\n /): pass", {"a": "p"}),
    "class": ("class A:\n x: int # ex\n y = 1 # no\n", {"x": "ex"}),
    "async": ("async def f(\n a, # x\n): pass", {"a": "x"}),
    "late line of an annotation": (
        "def f(\n a: dict[\n  str, int\n ], # late\n): pass",
        {"a": "late"},
    ),
    "blank line breaks off": ("def f(\n # far\n\n # near\n a): pass", {"a": "near"}),
    "string, not a comment": ("def f(\n a='# no',\n b=1): pass", {}),
    "string over lines": ("def f(\n a='''\n# no\n''',\n b=1): pass", {}),
    "body is not read": ("def f(a,\n b):\n # of the body\n x = 1 # x\n", {}),
    "body on the line": ("def f(a): # of a\n  pass", {"a": "of a"}),
    "decorator": ("@d(1) # no\ndef f(\n a, # yes\n): pass", {"a": "yes"}),
    "lambda": ("def f(\n a=lambda x: x, # fun\n): pass", {"a": "fun"}),
    "hash without space": ("def f(\n a, #x\n): pass", {"a": "x"}),
    "type comment of a bar": ("def f(\n a, #| x\n): pass", {"a": "| x"}),
}


@pytest.mark.parametrize("name", CASES)
def test_comments_have_the_meaning_of_nbdev(name: str) -> None:
    text, expected = CASES[name]
    assert describe(text) == expected


WORDS = st.text("ab '\"é→", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.none() | WORDS, st.lists(WORDS, max_size=2)), min_size=1))
def test_what_was_written_beside_or_above_is_read(
    params: list[tuple[str | None, list[str]]],
) -> None:
    lines, expected = ["def f("], {}
    for i, (beside, above) in enumerate(params):
        lines += [f"    # {one}" for one in above]
        lines.append(f"    a{i}='#'," + (f"  # {beside}" if beside else ""))
        if beside or above:
            expected[f"a{i}"] = beside or "\n".join(above)
    assert describe("\n".join([*lines, "): pass"])) == expected


def test_comments_are_those_of_the_tokeniser() -> None:
    """Of a whole module, one head after the other finds what one pass finds."""
    text = (ROOT / "litml/kernel.py").read_text()
    tokens = tokenize.generate_tokens(StringIO(text).readline)
    whole = {one.start[0]: one for one in tokens if one.type == tokenize.COMMENT}
    assert read_comments(text).keys() == whole.keys()


@pytest.mark.parametrize("text", ["def f(a", "x = '''", "  a\n b", "\0", "a $ b", ""])
def test_what_does_not_compile_has_the_comments_before_it(text: str) -> None:
    assert set(read_comments(f"# one\n{text}")) <= {1, 2, 3}
    assert 1 in read_comments(f"x = 1 # one\n{text}")


# Docstrings ---------------------------------------------------------------------------


def test_a_docstring_without_sections_stays_as_it_is() -> None:
    """No chapter's prose is taken for a section of a style."""
    for file in sorted((ROOT / "litml").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                assert parse_docstring(text).text == text


def test_google() -> None:
    said = parse_docstring(
        """Fit a model.

        It takes long.

        Args:
            data (Table): rows
            *rest: more rows,
                also many
            rate: how fast

        Yields:
            losses

        Attributes:
            loss: the last

        Raises:
            ValueError: of no rows

        Warning:
            Slow.
        """
    )
    assert said.text.startswith("Fit a model.\n\nIt takes long.")
    assert said.described == {
        **{"data": "rows", "rest": "more rows,\nalso many", "rate": "how fast"},
        **{"return": "losses", "loss": "the last"},
    }
    assert said.types == {"data": "Table"}
    assert "- `ValueError`: of no rows" in said.text and "> Slow." in said.text


def test_numpy() -> None:
    said = parse_docstring(
        """Fit.

        Parameters
        ----------
        data : Table
            rows
        rate : float, optional
            how fast

        Returns
        -------
        first : int
            the one
        second : int
            the other
        """
    )
    assert said.text == "Fit."
    assert said.described["data"] == "rows" and said.types["data"] == "Table"
    assert "`first`: `int`: the one" in said.described["return"]


def test_sphinx() -> None:
    text = "Fit.\n\n:param data: rows\n:type data: Table\n:returns: loss\n:rtype: float"
    said = parse_docstring(text)
    assert said.text == "Fit."
    assert said.described == {"data": "rows", "return": "loss"}
    assert said.types == {"data": "Table", "return": "float"}


@given(st.text("Args: \n\tabc:-`#(){}*.é", max_size=60))
def test_no_docstring_is_too_odd(text: str) -> None:
    parse_docstring(text)
