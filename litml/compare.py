# Exported from nbs/13c_compare.ipynb. Edit either side, then run `litml sync`.
"""Compare the outputs that a notebook stores with those of a fresh run, and say
readably what has changed.
"""

import base64
import difflib
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Any

from litml.cells import DirectiveError, split_words
from litml.notebook import Location, suggest
from litml.outcome import Output
from litml.saving import settle
from litml.testing import ANSWER, Testing

__all__ = [
    "Rule",
    "TOLERANCES",
    "make_rule",
    "BUILT_IN",
    "sanitize",
    "NUMBER",
    "is_alike",
    "is_close",
    "PIXELS",
    "Shown",
    "read_output",
    "decode",
    "make_shown",
    "is_text",
    "join",
    "TableReader",
    "read_table",
    "SHADE",
    "compare_images",
    "read_outputs",
    "compare_outputs",
    "list_lines",
    "compare_shown",
]


# ## The rule
# %% Rule
@dataclass(frozen=True, slots=True)
class Rule:
    """How outputs are compared; see `Testing` for the meaning of each."""

    rtol: float = 1e-6
    atol: float = 0.0
    pixels: float = 0.0
    sanitize: tuple[tuple[str, str], ...] = ()


TOLERANCES = ("rtol", "atol", "pixels")


def make_rule(testing: Testing, said: str, at: Location) -> Rule:
    """Return the rule for a cell whose `check-output` has the value `said`.

    Raises `DirectiveError` if that makes no sense.
    """
    rule = Rule(testing.rtol, testing.atol, testing.pixels, testing.sanitize)
    for word in split_words(said):
        name, _, text = word.partition("=")
        if name not in TOLERANCES:
            hint = suggest(name, TOLERANCES) or "write `rtol=1e-3`"
            raise DirectiveError(f"`check-output` knows no `{word}`", at=at, hint=hint)
        try:
            change: dict[str, Any] = {name: float(text)}
            rule = replace(rule, **change)
        except ValueError:
            message = f"`{name}` is a number, not `{text}`"
            raise DirectiveError(message, at=at) from None
    return rule


# ## What differs each time
# %% sanitize
BUILT_IN = [
    (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>"),
    (r"\b\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?",
     "<date>"),
    (r"\b\d\d?:\d\d(?::\d\d)?(?:\.\d+)?\b", "<time>"),
    (r"\b\d+(?:\.\d+)?(?:e-?\d+)? ?(?:ns|µs|μs|us|ms|s|sec|seconds|min|minutes)\b",
     "<duration>"),
    (r"(?<![\w/.:<])(?:/[\w.@+~-]+)+/([\w.@+~-]+)", r"…/\1"),
    (r"\b[A-Za-z]:(?:\\[\w.@+~ -]+)+\\([\w.@+~-]+)", r"…/\1"),
]  # fmt: skip


def sanitize(text: str, rule: Rule) -> str:
    """Return a text without what differs each time."""
    for pattern, new in (*rule.sanitize, *BUILT_IN):
        text = re.sub(pattern, new, text)
    return settle(text)


# ## Lines with numbers
# %% is_alike
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")


def is_alike(stored: str, fresh: str, rule: Rule) -> bool:
    """Are two lines the same, but for numbers that are close?"""
    if stored == fresh:
        return True
    before, now = NUMBER.findall(stored), NUMBER.findall(fresh)
    frames = [NUMBER.sub("#", " ".join(line.split())) for line in (stored, fresh)]
    if len(before) != len(now) or frames[0] != frames[1]:
        return False
    return all(is_close(a, b, rule) for a, b in zip(before, now, strict=True))


def is_close(stored: str, fresh: str, rule: Rule) -> bool:
    """Are two numbers the same within the tolerance?"""
    a, b = float(stored), float(fresh)
    if a == b:
        return True
    if re.fullmatch(r"[-+]?\d+", stored) and re.fullmatch(r"[-+]?\d+", fresh):
        return False
    return math.isclose(a, b, rel_tol=rule.rtol, abs_tol=rule.atol)


# ## What a reader sees
# %% Shown
PIXELS = ("image/png", "image/jpeg", "image/gif", "image/webp")


@dataclass(frozen=True, slots=True)
class Shown:
    """What one output shows: lines of text, or an image of the type `kind`."""

    kind: str
    lines: tuple[str, ...] = ()
    image: bytes = b""


# %% read_output
def read_output(output: Output, rule: Rule) -> Shown:
    """Return what an output shows, be it stored or fresh."""
    if output["output_type"] == "stream":
        return make_shown("stdout", output["text"], rule)
    if output["output_type"] == "error":
        text = f"{output.get('ename')}: {output.get('evalue')}"
        return make_shown("error", text, rule)
    data = output.get("data", {})
    for kind in PIXELS:
        if kind in data:
            return Shown(kind, image=decode(join(data[kind])))
    if "<table" in (html := join(data.get("text/html", ""))):
        return make_shown("table", "\n".join(read_table(html)), rule)
    plain = ["text/plain", "text/markdown", "text/latex", "text/html", *sorted(data)]
    kind = next((kind for kind in plain if kind in data), "nothing")
    value = data.get(kind, "")
    text = value if is_text(value) else json.dumps(value, indent=1, sort_keys=True)
    return make_shown(kind, text, rule)


def decode(text: str) -> bytes:
    """Return the image of an output; if that is damaged, what is no image."""
    try:
        return base64.b64decode(text)
    except ValueError:
        return text.encode()


def make_shown(kind: str, text: str | list[str], rule: Rule) -> Shown:
    """Return a text as it is compared."""
    lines = sanitize(join(text), rule).rstrip().split("\n")
    return Shown(kind, tuple(line.rstrip() for line in lines))


def is_text(value: object) -> bool:
    """Is it text, or a list of lines?"""
    lines = value if isinstance(value, list) else [value]
    return all(isinstance(line, str) for line in lines)


def join(text: str | list[str]) -> str:
    """Return text that may be stored as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


# %% read_table
class TableReader(HTMLParser):
    """Collects the text of a table's cells, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = [[]]
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Begin a row, a cell, or what nobody sees."""
        self.hidden += tag in ("style", "script")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """End a row, or what nobody sees."""
        self.hidden -= tag in ("style", "script")
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        """Add text to the cell that is open."""
        if not self.hidden and data.strip():
            row = self.rows[-1]
            row[-1:] = [" ".join([*row[-1:], data.strip()]).strip()]


def read_table(html: str) -> list[str]:
    """Return the rows of a table as text, with bars between the cells."""
    reader = TableReader()
    reader.feed(html)
    reader.close()
    return [" | ".join(row) for row in reader.rows if row]


# ## Images
# %% compare_images
SHADE = 16  # of 255: how far a channel of a pixel may be off


def compare_images(stored: bytes, fresh: bytes, rule: Rule) -> str:
    """Say how two images differ; nothing if they do not."""
    if stored == fresh:
        return ""
    try:
        from PIL import Image, ImageChops
    except ImportError:
        names = [hashlib.sha256(one).hexdigest()[:12] for one in (stored, fresh)]
        return f"the bytes differ, {names[0]} and {names[1]}; pixels need Pillow"
    try:
        opened = [Image.open(io.BytesIO(one)) for one in (stored, fresh)]
        images = [image.convert("RGBA") for image in opened]
    except OSError:
        return "it differs, and one of the two is damaged"
    if any(getattr(image, "is_animated", False) for image in opened):
        return "it moves, and its bytes differ"
    if images[0].size != images[1].size:
        sizes = ["×".join(map(str, image.size)) for image in images]
        return f"its size is {sizes[1]}, and was {sizes[0]}"
    apart = ImageChops.difference(*images).point(lambda value: 255 * (value > SHADE))
    most = apart.getchannel(0)
    for channel in range(1, 4):
        most = ImageChops.lighter(most, apart.getchannel(channel))
    share = most.histogram()[255] / (most.width * most.height)
    if share <= rule.pixels:
        return ""
    return f"{share:.2%} of its pixels differ, {rule.pixels:.2%} may"


# ## All outputs of a cell
# %% read_outputs
def read_outputs(outputs: Sequence[Output], rule: Rule) -> list[Shown]:
    """Return what a cell shows, piece by piece."""
    merged: list[Output] = []
    for output in outputs:
        stream = output.get("name") if output["output_type"] == "stream" else None
        if stream == "stderr" or ANSWER in output.get("data", {}):
            continue
        if stream and merged and merged[-1].get("name") == stream:
            text = join(merged[-1]["text"]) + join(output["text"])
            merged[-1] = {**merged[-1], "text": text}
        else:
            merged.append(output)
    return [read_output(output, rule) for output in merged]


# %% compare_outputs
def compare_outputs(
    stored: Sequence[Output], fresh: Sequence[Output], rule: Rule
) -> str:
    """Say how the fresh outputs differ from the stored ones; nothing if they do not."""
    before, now = read_outputs(stored, rule), read_outputs(fresh, rule)
    if [shown.kind for shown in before] == [shown.kind for shown in now]:
        pairs = zip(before, now, strict=True)
        return "\n".join(part for a, b in pairs if (part := compare_shown(a, b, rule)))
    whole = [
        Shown("outputs", tuple(line for one in some for line in list_lines(one)))
        for some in (before, now)
    ]
    return compare_shown(whole[0], whole[1], rule)


def list_lines(shown: Shown) -> Iterator[str]:
    """Yield the lines of one of several outputs, with a heading."""
    size = f", {len(shown.image):,} bytes" if shown.image else ""
    yield f"[{shown.kind}{size}]"
    yield from shown.lines


# %% compare_shown
def compare_shown(stored: Shown, fresh: Shown, rule: Rule) -> str:
    """Say how one output differs from the stored one; nothing if it does not."""
    if stored.image or fresh.image:
        found = compare_images(stored.image, fresh.image, rule)
        return f"{fresh.kind}: {found}" if found else ""
    old, new = list(stored.lines), list(fresh.lines)
    for place, (a, b) in enumerate(zip(old, new, strict=False)):
        new[place] = a if is_alike(a, b, rule) else b
    if old == new:
        return ""
    names = (f"stored {stored.kind}", f"fresh {fresh.kind}")
    lines = difflib.unified_diff(old, new, *names, lineterm="", n=2)
    return "\n".join(line for line in lines if not line.startswith("@@"))
