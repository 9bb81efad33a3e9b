# Exported from nbs/15a_formula.ipynb. Edit either side, then run `litml sync`.
"""LaTeX formulas as MathML, which browsers draw and screen readers read without a
script.
"""

import re
from functools import lru_cache
from html import unescape
from typing import Any
from xml.etree.ElementTree import Element, tostring

__all__ = [
    "TAGS",
    "ATTRIBUTES",
    "CHILDREN",
    "clean_tree",
    "join_base",
    "NOT_DRAWN",
    "to_mathml",
    "strip_dollars",
]


# ## What is not to be trusted
# %% clean_tree
TAGS = frozenset(
    "math maction menclose merror mfenced mfrac mglyph mi mlabeledtr mmultiscripts mn"
    " mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle msub"
    " msubsup msup mtable mtd mtext mtr munder munderover none".split()
)
ATTRIBUTES = frozenset(
    "accent accentunder align columnalign columnlines columnspacing columnspan depth"
    " display displaystyle fence fontstyle form height largeop linethickness lspace"
    " mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits"
    " notation rowalign rowlines rowspacing rowspan rspace scriptlevel separator"
    " side stretchy symmetric voffset width".split()
)

CHILDREN = {
    **dict.fromkeys(["mfrac", "mover", "mroot", "msub", "msup", "munder"], 2),
    **dict.fromkeys(["msubsup", "munderover"], 3),
}


def clean_tree(tree: Element) -> bool:
    """Clean a tree in place; False if it holds what is not MathML, or not drawn."""
    for element in list(tree.iter()):
        wanted = CHILDREN.get(element.tag, len(element))
        if element.tag in ("msub", "msup", "msubsup"):
            join_base(element, wanted)
        if element.tag not in TAGS or len(element) != wanted:
            return False
        element.text = unescape(element.text or "")
        element.tail = unescape(element.tail or "")
        if re.match(r"\\[A-Za-z]", element.text):
            return False  # a command it does not know is left as a word
        for name in set(element.keys()) - ATTRIBUTES:
            del element.attrib[name]
    return True


def join_base(element: Element, wanted: int) -> None:
    """Put what an index or exponent stands at into one row, if it is several."""
    children = list(element)
    if len(children) > wanted:
        row = Element("mrow")
        row.extend(children[: len(children) - wanted + 1])
        element[:] = [row, *children[len(row) :]]


# ## Converting
# %% to_mathml
NOT_DRAWN = re.compile(r"\\(?:label|tag)\*?\{[^{}]*\}|\\(?:nonumber|notag)\b")


@lru_cache(maxsize=20_000)
def to_mathml(latex: str, display: bool = False) -> str | None:
    """Return a formula as MathML; None if it cannot be converted."""
    from latex2mathml.converter import convert_to_element

    style = "block" if display else "inline"
    try:
        tree: Any = convert_to_element(NOT_DRAWN.sub("", latex), display=style)
    except Exception:  # it raises what it likes, also IndexError and KeyError
        return None
    if not clean_tree(tree):
        return None
    return tostring(tree, encoding="unicode")


# %% strip_dollars
def strip_dollars(latex: str) -> str:
    """Return the formula inside `$…$`, `$$…$$`, `\\[…\\]` or `\\(…\\)`."""
    text = latex.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\[", "\\]"), ("\\(", "\\)")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > 2:
            return text[len(opening) : -len(closing)].strip()
    return text
