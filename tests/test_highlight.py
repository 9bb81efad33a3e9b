"""Code in colour is the same code."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from litml.highlight import (
    KINDS,
    LIMIT,
    code_block,
    find_kind,
    highlight,
    join_words,
    write_words,
)

ROOT = Path(__file__).parents[1]


class Reader(HTMLParser):
    """What a browser sees: text, and the classes of its elements."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


source = st.text(
    st.sampled_from("abf01 \n\t<>&\"'#()=:.@_%!\\é{}-") | st.characters(codec="utf-8"),
    max_size=60,
)


@given(source, st.sampled_from(["python", "bash", "html", "json", "rust", "text"]))
@settings(max_examples=150, deadline=None)
@example("</code></pre><script>x()</script>", "python")
@example("'''open", "python")
@example("%%bash\nls", "python")
def test_nothing_is_lost_and_nothing_gets_out(code: str, language: str) -> None:
    reader = read(highlight(code, language))
    seen = reader.text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    meant = code.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    assert seen.replace("\0", "�") == meant.replace("\0", "�")
    assert {tag for tag, _ in reader.tags} <= {"span"}
    classes = {dict(attrs)["class"] for _, attrs in reader.tags}
    assert classes <= set(KINDS.values())


pieces = st.sampled_from(
    [
        *("\n", "\t", "\f", *" #{}()[]:=!?@.,\\\"'", '"""', "'''", "  "),
        *(*"rfbRuT1_xAé", ".5", "1e", "0x", "%s", "__", "__init__", "len", "self"),
        *("def ", "class ", "from ", "import ", "match", "case", "lazy", "async "),
        *("for", "yield from", "print", "not", "None"),
    ]
)


@given(st.lists(pieces, max_size=14).map("".join))
@settings(max_examples=400, deadline=None)
@example('\n  """doc"""')
@example("match x:\n case _: lazy")
@example("x.list.__init__(fr'{a!r:>{n}}')")
def test_our_rules_for_python_change_nothing(code: str) -> None:
    """Pygments' own lexer of Python, with none of our rules, gives the same HTML."""
    from pygments.lexers import PythonLexer

    tokens = PythonLexer().get_tokens_unprocessed(f"{code}\n")
    words = join_words((find_kind(kind), text) for _, kind, text in tokens)
    assert highlight(code) == "".join(write_words(words)).rstrip("\n")


def test_a_module_of_ours_is_coloured_word_for_word() -> None:
    """Python's own tokenizer says which words are keywords and what is a comment."""
    import keyword
    import tokenize

    path = ROOT / "litml" / "notebook.py"
    html = highlight(path.read_text("utf-8").rstrip("\n"))
    with path.open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    comments = [t.string for t in tokens if t.type == tokenize.COMMENT]
    shown = "\n".join(re.findall(r'<span class="c">(.*?)</span>', html, re.DOTALL))
    assert all(comment in read(shown).text for comment in comments)
    words = {t.string for t in tokens if keyword.iskeyword(t.string)}
    coloured = " ".join(re.findall(r'<span class="[kb]">(.*?)</span>', html, re.DOTALL))
    assert words <= set(coloured.split())


@pytest.mark.parametrize("language", ["", "klingon", '"><script>', "python"])
def test_a_block_can_be_reached_and_has_a_name(language: str) -> None:
    reader = read(code_block("a < b", language))
    (tag, attrs), *_ = reader.tags
    said = dict(attrs)
    assert (tag, said["tabindex"], said["role"]) == ("pre", "0", "group")
    assert said["aria-label"] and reader.text.strip() == "a < b"
    assert not [tag for tag, _ in reader.tags if tag == "script"]


def test_megabytes_are_not_coloured() -> None:
    assert highlight("x = 1\n" * LIMIT) == "x = 1\n" * LIMIT
