# Exported from nbs/16a_search.ipynb. Edit either side, then run `litml sync`.
"""Search of a site without a server: small files of words, which a page loads as
somebody types.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import sub
from typing import Any

from litml.page import Section

__all__ = [
    "WORD",
    "PART",
    "PICTURES",
    "SHORTEST",
    "LONGEST",
    "split_words",
    "parts_of",
    "Entry",
    "COUNTED",
    "SHOWN",
    "TITLE",
    "SYMBOL",
    "MOST",
    "index_page",
    "index_section",
    "CHUNK",
    "shard_of",
    "build_search",
    "script",
    "search",
    "CANDIDATES",
    "match",
    "rank",
    "read_script",
]


# ## Words
# %% split_words
WORD = re.compile(r"\w+")
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
PICTURES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
SHORTEST, LONGEST = 2, 31


def split_words(text: str) -> Iterator[str]:
    """Yield the words of a text that can be searched for, in lower case."""
    for word in WORD.findall(text):
        yield from parts_of(word)


@lru_cache(maxsize=1 << 16)
def parts_of(word: str) -> tuple[str, ...]:
    """Return a word and its parts, each once, in lower case."""
    found = [word.lower()]
    if word.isascii():
        found += [part.lower() for part in PART.findall(word)]
    else:
        for run in PICTURES.findall(word):
            found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
    fits = (one for one in found if SHORTEST <= len(one) <= LONGEST)
    return tuple(dict.fromkeys(fits))


# ## One page
# %% Entry
@dataclass(frozen=True, slots=True)
class Entry:
    """A section as it is found: the words with their weights, and what is shown.

    `text` is its beginning, `place` the title of the page.
    """

    url: str
    title: str
    place: str
    text: str
    is_symbol: bool
    words: Mapping[str, int]


# %% index_section
COUNTED, SHOWN = 1200, 160  # characters
TITLE, SYMBOL, MOST = 10, 20, 63


def index_page(url: str, title: str, sections: Iterable[Section]) -> list[Entry]:
    """Return the entries of a page at `url`, one for each of its sections."""
    return [index_section(url, title, section) for section in sections]


def index_section(url: str, place: str, section: Section) -> Entry:
    """Return the entry of one section."""
    text = " ".join(section.text.split())
    counts = Counter(split_words(text[:COUNTED]))
    words = {word: min(count, MOST) for word, count in counts.items()}
    more = TITLE + SYMBOL * section.is_symbol
    for word in dict.fromkeys(split_words(section.title)):
        words[word] = words.get(word, 0) + more
    address = f"{url}#{section.id}" if section.id else url
    shown = text if len(text) <= SHOWN else f"{text[: SHOWN - 1].rstrip()}…"
    return Entry(address, section.title, place, shown, section.is_symbol, words)


# ## Shards
# %% shard_of
CHUNK = 256


def shard_of(word: str) -> str:
    """Return the name of the shard of a word, which is fit for a file."""
    start = word[:2]
    plain = re.fullmatch(r"[a-z0-9_]{2}", start)
    return start if plain else "-".join(f"{ord(one):x}" for one in start)


# %% build_search
def build_search(entries: Iterable[Entry]) -> dict[str, bytes]:
    """Return the files of the index, by their names."""
    postings: defaultdict[str, list[int]] = defaultdict(list)
    shown: list[list[Any]] = []
    for number, entry in enumerate(entries):
        for word, weight in entry.words.items():
            postings[word] += (number, weight)
        text = [entry.url, entry.title, entry.place, entry.text, int(entry.is_symbol)]
        shown.append(text)
    shards: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
    for word, posting in postings.items():
        posting[2::2] = map(sub, posting[2::2], posting[::2])  # numbers become steps
        shards[word[:2]][word] = posting
    data: dict[str, object] = {f"w-{shard_of(key)}": one for key, one in shards.items()}
    for start in range(0, len(shown), CHUNK):
        data[f"s-{start // CHUNK}"] = shown[start : start + CHUNK]
    return {f"{name}.js": script(name, one) for name, one in data.items()}


def script(name: str, data: object) -> bytes:
    """Return a file that hands its data to the page that loads it as `name`."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return f'litmlData("{name}",{text})\n'.encode()


# ## Asking
# %% search
def search(files: Mapping[str, bytes], query: str, limit: int = 25) -> list[str]:
    """Return the addresses that a query finds, the best first."""
    words = [word.lower() for word in WORD.findall(query)]
    long = [word for word in words if len(word) >= SHORTEST]
    found: dict[int, int] | None = None
    for word in long:
        hits = match(files, word)
        if found is not None:
            hits = {n: found[n] + weight for n, weight in hits.items() if n in found}
        found = hits
    order = sorted((-weight, n) for n, weight in (found or {}).items())[:CANDIDATES]
    wanted = query.strip().lower()
    ranked = []
    for weight, n in order:
        url, title, _, _, is_symbol = read_script(files[f"s-{n // CHUNK}.js"])[
            n % CHUNK
        ]
        worth = rank(title, is_symbol, wanted, -weight)
        ranked.append((-worth, len(title), n, url))
    return [url for *_, url in sorted(ranked)[:limit]]


CANDIDATES = 300


def match(files: Mapping[str, bytes], start: str) -> dict[int, int]:
    """Return the sections with a word that begins so, with their weights."""
    found: dict[int, int] = {}
    words = read_script(files.get(f"w-{shard_of(start)}.js", b"litmlData(0,{})"))
    for word, postings in words.items():
        if word.startswith(start):
            number = 0
            for step, weight in zip(postings[::2], postings[1::2], strict=True):
                number += step
                found[number] = max(found.get(number, 0), weight)
    return found


def rank(title: str, is_symbol: bool, wanted: str, weight: int) -> int:
    """Return what a section is worth; `weight` decides among equals."""
    name = title.lower()
    last = name.rpartition(".")[2]
    worth = 100 if wanted in (name, last) else 3
    if worth == 3 and (name.startswith(wanted) or last.startswith(wanted)):
        worth = 40
    elif worth == 3 and wanted in name:
        worth = 20
    return (worth + 15 * is_symbol) * 1000 + min(weight, 999)


def read_script(data: bytes) -> Any:
    """Return what a file of the index holds."""
    return json.loads(data.decode().partition(",")[2].rstrip()[:-1])
