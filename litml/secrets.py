# Exported from nbs/07b_secrets.ipynb. Edit either side, then run `litml sync`.
"""Find keys and passwords in outputs before git keeps them for ever."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from litml.canonical import is_json, is_text, load_tree, split_text, write_tree
from litml.clean import Cleaned, Policy, clean_notebook
from litml.notebook import Location
from litml.project import ConfigError

__all__ = [
    "KEY",
    "find_secrets",
    "redact_text",
    "redact_line",
    "Finding",
    "scan_tree",
    "redact_tree",
    "clean_safely",
]


# ## The rules
# %% load_rules
Rule = tuple[str, Callable[[str], Iterable[str]]]

MORE = {
    "Hugging Face token": r"hf_[A-Za-z0-9]{30,40}",
    "Anthropic key": r"sk-ant-[\w-]{20,}",
    "OpenAI project key": r"sk-proj-[\w-]{20,}",
    "Google API key": r"AIza[\w-]{35}",
    "GitHub fine-grained token": r"github_pat_\w{40,}",
    "JSON Web Token": r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]+)?",
}
LEFT_OUT = ("Public IP (ipv4)", "JSON Web Token")


@cache
def load_rules() -> tuple[Rule, ...]:
    """Return the rules by kind: functions that find secrets in a line of text.

    Raises `ConfigError` where `detect-secrets` is not installed.
    """
    if sys.flags.no_site:  # as git starts Python; the library is among the others
        import site

        site.main()
    try:
        from detect_secrets.core.plugins.util import (
            get_mapping_from_secret_type_to_class as list_rules,
        )
        from detect_secrets.plugins.base import RegexBasedDetector
        from detect_secrets.plugins.keyword import KeywordDetector
    except ImportError as error:
        hint = 'pip install "litml[secrets]"'
        message = "looking for secrets needs detect-secrets"
        raise ConfigError(message, at=Location("pyproject.toml"), hint=hint) from error
    known: Mapping[str, type[RegexBasedDetector]] = list_rules()
    patterns = [
        (kind, pattern)
        for kind, rule in known.items()
        if issubclass(rule, RegexBasedDetector) and kind not in LEFT_OUT
        for pattern in rule().denylist
    ]
    patterns += [(kind, re.compile(pattern)) for kind, pattern in MORE.items()]
    rules = [(kind, partial(find_matches, pattern)) for kind, pattern in patterns]
    named = KeywordDetector().analyze_string
    return (*rules, ("Password", lambda line: filter(is_long, named(line))))


def find_matches(pattern: re.Pattern[str], line: str) -> list[str]:
    """Return what matches a pattern, all of it."""
    return [match[0] for match in pattern.finditer(line)]


def is_long(value: str) -> bool:
    """Is the value of a `password = …` more than a placeholder?"""
    return len(value) >= 8


# %% find_in_line
COLORS = re.compile(r"\x1b\[[0-9;]*m")
BYTES = re.compile(r"[A-Za-z0-9+/=]{1000,}")
PIECE, OVERLAP = 2000, 300


def find_in_line(line: str) -> list[tuple[str, str]]:
    """Return what looks like a secret in a line: pairs of kind and text."""
    line = BYTES.sub(" ", COLORS.sub("", line))
    found: dict[str, str] = {}
    for start in range(0, max(len(line) - OVERLAP, 1), PIECE):
        piece = line[start : start + PIECE + OVERLAP]
        for kind, search in load_rules():
            for secret in map(str.strip, search(piece)):
                if stands_alone(secret, piece) and GONE not in secret:
                    found.setdefault(secret, kind)
    return [(kind, secret) for secret, kind in found.items()]


def stands_alone(secret: str, line: str) -> bool:
    """Is there a place where no letter or digit at its ends goes on?"""
    before = r"(?<![A-Za-z0-9+/])" if secret[:1].isalnum() else ""
    after = r"(?![A-Za-z0-9+/])" if secret[-1:].isalnum() else ""
    return re.search(f"{before}{re.escape(secret)}{after}", line) is not None


GONE = "[redacted"


# ## A text
# %% find_secrets
KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----END )[\s\S])*(?:-----END [^\n]*)?"
)


def find_secrets(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line, from 1, and the kind of each secret in a text."""
    for match in KEY.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, "Private Key"
    text = KEY.sub(lambda match: "\n" * match[0].count("\n"), text)
    for number, line in enumerate(text.split("\n"), start=1):
        for kind, _ in find_in_line(line):
            yield number, kind


def redact_text(text: str) -> str:
    """Return a text with the kind of each secret in its place."""
    text = KEY.sub(f"{GONE}: Private Key]", text)
    return "\n".join(map(redact_line, text.split("\n")))


def redact_line(line: str) -> str:
    """Return a line without secrets; all of it goes if one has colours inside."""
    while found := find_in_line(line):
        before = line
        for kind, secret in sorted(found, key=lambda pair: -len(pair[1])):
            line = line.replace(secret, f"{GONE}: {kind}]")
        if line == before:
            return f"{GONE}: {found[0][0]}]"
    return line


# ## The outputs of a notebook
# %% map_texts
Change = Callable[[str], str]
BINARY = re.compile(r"(?:image/(?!svg)|audio/|video/|font/|application/(?:pdf|octet))")


def map_texts(output: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Return an output with each of its texts changed."""
    found = dict(output)
    for key in ("text", "evalue"):
        if is_text(found.get(key)):
            found[key] = map_lines(found[key], change)
    if "traceback" in found:
        found["traceback"] = map_strings(found["traceback"], change)
    if "data" in found:
        found["data"] = {
            mime: value if BINARY.match(mime) else map_value(mime, value, change)
            for mime, value in found["data"].items()
        }
    return found


def map_value(mime: str, value: Any, change: Change) -> Any:
    """Return the value of a mime type with its texts changed."""
    is_lines = is_text(value) and not is_json(mime)
    return map_lines(value, change) if is_lines else map_strings(value, change)


def map_lines(stored: str | list[str], change: Change) -> str | list[str]:
    """Return a text with a change, stored as before if there is none."""
    before = "".join(stored)
    after = change(before)
    if after == before:
        return stored
    return split_text(after) if isinstance(stored, list) else after


def map_strings(value: Any, change: Change) -> Any:
    """Return JSON with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {key: map_strings(item, change) for key, item in value.items()}
    return value


# %% scan_tree
@dataclass(frozen=True, slots=True)
class Finding:
    """Something like a secret: the cell, the output and its line, from 1; the kind."""

    at: Location
    output: int
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.at}, output {self.output}, line {self.line}: {self.kind}"


def scan_tree(tree: Mapping[str, Any], name: str) -> list[Finding]:
    """Return what looks like a secret in the outputs of a notebook's tree."""
    found: list[Finding] = []
    for index, cell in enumerate(tree["cells"], start=1):
        at = Location(name, str(cell.get("id") or f"number {index}"))
        for number, output in enumerate(cell.get("outputs") or [], start=1):
            texts: list[str] = []
            map_texts(output, lambda text, texts=texts: texts.append(text) or text)  # type: ignore[misc]
            pairs = dict.fromkeys(pair for text in texts for pair in find_secrets(text))
            found += [Finding(at, number, line, kind) for line, kind in pairs]
    return found


def redact_tree(tree: Mapping[str, Any]) -> None:
    """Take what looks like a secret out of a notebook's outputs, in place."""
    for cell in tree["cells"]:
        if cell.get("outputs"):
            cell["outputs"] = [map_texts(one, redact_text) for one in cell["outputs"]]


# ## Cleaning safely
# %% clean_safely
def clean_safely(raw: bytes, policy: Policy) -> Cleaned:
    """Clean a notebook's bytes, and redact secrets if the policy says so."""
    cleaned = clean_notebook(raw, policy)
    data = cleaned.data
    while policy.secrets == "redact" and not cleaned.left:
        tree = load_tree(data)
        redact_tree(tree)
        redacted = clean_notebook(write_tree(tree), policy).data
        if redacted == data:
            break
        data = redacted
    return cleaned._replace(data=data)
