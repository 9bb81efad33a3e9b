# Exported from nbs/15a_highlight.ipynb. Edit either side, then run `litml sync`.
"""Code in colour: source text to HTML with a class for each kind of word, once for
each text.
"""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from html import escape
from typing import Any

__all__ = [
    "KINDS",
    "find_kind",
    "MORE",
    "UNMARKED",
    "STRING",
    "python_lexer",
    "ALIASES",
    "PLAIN",
    "find_lexer",
    "LIMIT",
    "highlight",
    "join_words",
    "write_words",
    "code_block",
]


# ## Kinds of words
# %% KINDS
KINDS = {
    "Token.Comment": "c",  # a comment
    "Token.Keyword": "k",  # a keyword
    "Token.Keyword.Constant": "b",  # a constant or a built-in name
    "Token.Literal.Number": "m",  # a number
    "Token.Literal.String": "s",  # a string
    "Token.Literal.String.Doc": "sd",  # a docstring
    "Token.Name.Builtin": "b",
    "Token.Name.Class": "t",  # a class or a type that is defined
    "Token.Name.Decorator": "d",  # a decorator
    "Token.Name.Exception": "t",
    "Token.Name.Function": "f",  # a function that is defined
    "Token.Name.Tag": "k",
    "Token.Operator.Word": "k",
    "Token.Generic.Deleted": "gd",  # a line of a diff
    "Token.Generic.Inserted": "gi",
    "Token.Generic.Prompt": "c",
}


@cache
def find_kind(token: Any) -> str:
    """Return the class of a Pygments token, its own or that of an ancestor."""
    while token is not None:
        if kind := KINDS.get(str(token)):
            return kind
        token = token.parent
    return ""


# ## Python
# %% python_lexer
MORE = """
    Ellipsis NotImplemented and case class cls def from import in is lazy match not or
    self
""".split()
UNMARKED = r"""(?x: (?:
    \s [^\S\n]* (?! \s | [bBrRuU]{0,2}["'] | (?:case|lazy|match)\b )  # nor a docstring
  | (?<=\S) [^\S\n]+
  | [-+*/%=<>&^|~()\[\]{},:;]+
  | \. (?!\d)
  | (?! __ | WORDS ) [a-zA-Z_]\w* (?![\w"'])
)+ )"""
STRING = r'"(?!"")(?:[^"\\\n]|\\.)*"' + r"|'(?!'')(?:[^'\\\n]|\\.)*'"


def python_lexer() -> Any:
    """Return Pygments' lexer of Python with rules for what is most of a program."""
    # Its stubs need not be installed.
    from pygments import lexer, lexers, token  # type: ignore[import-untyped,unused-ignore]

    python, words = lexers.PythonLexer, lexer.words
    rules = [rule for rules in python.tokens.values() for rule in rules]
    lists = [rule[0] for rule in rules if isinstance(rule, tuple)]
    listed = [word for one in lists if isinstance(one, words) for word in one.words]
    known = words([*MORE, *listed], suffix=r"\b").get()
    unmarked = UNMARKED.replace("WORDS", known)
    front = [(unmarked, token.Text), (STRING, token.String), lexer.inherit]
    return type("QuickLexer", (python,), {"tokens": {"root": front}})()


# ## Languages
# %% find_lexer
ALIASES = {"ipython": "python", "ipython3": "python", "jupyter": "python"}
PLAIN = frozenset(["", "text", "txt", "plain", "none", "output"])


@cache
def find_lexer(language: str) -> Any:
    """Return Pygments' lexer of a language; None if there is none."""
    if language in PLAIN:
        return None
    from pygments import lexers, util  # type: ignore[import-untyped,unused-ignore]

    try:
        found = lexers.find_lexer_class_by_name(ALIASES.get(language, language))
    except util.ClassNotFound:
        return None
    return python_lexer() if found is lexers.PythonLexer else found()


# ## Colour
# %% highlight
LIMIT = 200_000  # characters


@lru_cache(maxsize=20_000)
def highlight(source: str, language: str = "python") -> str:
    """Return the source as HTML for inside of `<code>`."""
    lexer = find_lexer(language.lower()) if len(source) <= LIMIT else None
    if lexer is None:
        return escape(source, quote=False)
    # Its `get_tokens` would clean up and encode again what is text already.
    found = lexer.get_tokens_unprocessed(source.replace("\r\n", "\n") + "\n")
    words = ((find_kind(token), text) for _, token, text in found)
    return "".join(write_words(join_words(words))).rstrip("\n")


# %% join_words
def join_words(words: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Join neighbours of one kind. Space belongs to the kind before it."""
    last = ""
    texts: list[str] = []
    for kind, text in words:
        if kind != last and not text.isspace():
            yield last, "".join(texts)
            last, texts = kind, []
        texts.append(text)
    yield last, "".join(texts)


def write_words(words: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Write words as HTML. Space at the end stays outside of the element."""
    for kind, text in words:
        safe = escape(text, quote=False)
        if kind:
            inner = safe.rstrip()
            yield f'<span class="{kind}">{inner}</span>{safe[len(inner) :]}'
        else:
            yield safe


# ## A block of code
# %% code_block
def code_block(source: str, language: str = "python") -> str:
    """Return code as a block that can be reached and named."""
    lexer = find_lexer(language.lower())
    name = lexer.name if lexer else ""
    label = f"{name} code" if name else "Code"
    code = highlight(source, language)
    return (
        f'<pre class="code" tabindex="0" role="group" aria-label="{escape(label)}"'
        f' data-language="{escape(name)}"><code>{code}</code></pre>\n'
    )
