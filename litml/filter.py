# Exported from nbs/09b_filter.ipynb. Edit either side, then run `litml sync`.
"""Stand between the work tree and git: outputs stay here, and come back after a
checkout.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from litml.canonical import OddFile, load_tree, write_tree
from litml.clean import Cleaned, Policy, clean_notebook, clean_tree, load_policy

if TYPE_CHECKING:
    from litml.cache import Cache, Shown

__all__ = [
    "LARGEST",
    "read_packets",
    "write_packets",
    "write_content",
    "PolicyError",
    "find_policy",
    "serve",
    "main",
]


# ## Packets
# %% read_packets
LARGEST = 65_516


def read_packets(stream: BinaryIO) -> Iterator[bytes]:
    """Yield packets up to the end of the list; raises `EOFError` if there is none."""
    while (size := stream.read(4)) != b"0000":
        if len(size) < 4:
            raise EOFError
        data = stream.read(int(size, 16) - 4)
        if len(data) < int(size, 16) - 4:
            raise EOFError
        yield data


def write_packets(stream: BinaryIO, *packets: bytes | memoryview) -> None:
    """Write a list of packets."""
    for packet in packets:
        stream.write(b"%04x" % (len(packet) + 4))
        stream.write(packet)
    stream.write(b"0000")


def write_content(stream: BinaryIO, data: bytes) -> None:
    """Write a content, cut into packets."""
    view = memoryview(data)
    starts = range(0, len(data), LARGEST)
    write_packets(stream, *(view[start : start + LARGEST] for start in starts))


# ## Going in
# %% find_policy
class PolicyError(ValueError):
    """Configuration that makes no sense."""


def find_policy(notebook: str, known: dict[str, Policy]) -> Policy:
    """Return the policy for a notebook; `known` are those of folders.

    Raises `PolicyError`.
    """
    folder = os.path.dirname(notebook)
    if folder not in known:
        try:
            with open(os.path.join(folder, "pyproject.toml"), "rb") as file:
                known[folder] = load_policy(file.read())
        except FileNotFoundError:
            ends = folder == os.path.dirname(folder)  # "", or the root of a disk
            known[folder] = Policy() if ends else find_policy(folder, known)
        except Exception as error:
            told = str(error).replace("\n ", ";") or type(error).__name__
            raise PolicyError(f"pyproject.toml says not how: {told}") from error
    return known[folder]


# ## One file
# %% remember
def remember(cleaned: Cleaned, notebook: str, cache: Cache) -> None:
    """Note what the cells of a notebook showed; raises `OSError`."""
    from litml.cache import Shown, cell_keys

    keys = cell_keys(cleaned.cells)
    pairs = zip(keys, cleaned.showed, strict=True)
    shown = {key: Shown(*one) for key, one in pairs if one[1]}
    if shown:
        cache.remember(notebook, shown)


# %% recall
def recall(raw: bytes, notebook: str, policy: Policy, cache: Cache) -> bytes:
    """Return a notebook with what its cells showed; raises `OddFile`, `OSError`."""
    from litml.cache import cell_keys

    tree = load_tree(raw)
    keys = cell_keys(tree["cells"])
    found = cache.recall(notebook, keys)
    if not found or write_tree(tree) != raw:
        return raw
    for cell, key in zip(tree["cells"], keys, strict=True):
        if key in found:
            filled = fill(cell, found[key])
            if is_clean_form(cell, filled, tree, policy):
                cell.update(filled)
    return write_tree(tree)


def fill(cell: dict[str, Any], shown: Shown) -> dict[str, Any]:
    """Return a cell with its number and outputs, where it has a place for them."""
    values = {"execution_count": shown.number, "outputs": shown.outputs}
    return cell | {key: values[key] for key in cell.keys() & values}


def is_clean_form(
    cell: dict[str, Any], filled: dict[str, Any], tree: dict[str, Any], policy: Policy
) -> bool:
    """Is a cell what the filled one is once it is clean?"""
    trial = {**tree, "cells": [dict(filled)]}
    clean_tree(trial, policy)
    return bool(trial["cells"] == [cell])


# %% is_index_locked
def is_index_locked() -> bool:
    """Does a git hold the index of this work tree, as any does that checks out?"""
    if os.path.exists(".git/index.lock"):
        return True
    import subprocess  # the index of a linked work tree is elsewhere

    command = ["git", "rev-parse", "--git-path", "index"]
    told = subprocess.run(command, capture_output=True).stdout
    index = os.fsdecode(told).removesuffix("\n")
    return not index or os.path.exists(f"{index}.lock")


# %% Filter
class Filter:
    """What one command of git asks, with the cache in the file at `cache_path`."""

    def __init__(self, cache_path: str) -> None:
        self.cache_path = cache_path
        self.policies: dict[str, Policy] = {}
        self.warnings: set[str] = set()
        self.opened: Cache | None = None
        self.is_cache_broken = False

    @property
    def cache(self) -> Cache:
        """What cells showed."""
        from litml.cache import Cache

        self.opened = self.opened or Cache(self.cache_path)
        return self.opened

    @cached_property
    def is_archive(self) -> bool:
        """Does git write whole trees into something that is no work tree?"""
        return not is_index_locked()

    def answer(
        self, command: str, notebook: str, raw: bytes, whole: bool = False
    ) -> bytes:
        """Do what git asks for; whatever cannot be done leaves the file as it is.

        `whole` is said of a file of a whole commit or tree that git writes.
        """
        try:
            if command == "clean":
                return self.clean(raw, notebook)
            if command == "smudge" and not (whole and self.is_archive):
                return self.smudge(raw, notebook)
            return raw
        except Exception as error:
            told = str(error) or type(error).__name__
            self.warn(notebook, f"is left as it is: {told}")
            return raw

    def clean(self, raw: bytes, notebook: str) -> bytes:
        """Return a notebook as git is to hold it."""
        policy, clean = find_policy(notebook, self.policies), clean_notebook
        if policy.secrets == "redact":
            from litml.secrets import clean_safely as clean  # loads a good deal more

        cleaned = clean(raw, policy)
        if cleaned.left:
            self.warn(notebook, f"is left as it is: {cleaned.left}")
        elif cleaned.data != raw and not self.is_cache_broken:
            try:
                remember(cleaned, notebook, self.cache)
            except OSError as error:
                self.give_up(notebook, error)
        return cleaned.data

    def smudge(self, raw: bytes, notebook: str) -> bytes:
        """Return a notebook as it was seen last on this machine."""
        off = self.is_cache_broken or os.environ.get("LITML_SMUDGE") == "0"
        if off or not os.path.exists(self.cache_path):
            return raw
        policy = find_policy(notebook, self.policies)
        try:
            return recall(raw, notebook, policy, self.cache)
        except OddFile:
            return raw
        except OSError as error:
            self.give_up(notebook, error)
            return raw

    def give_up(self, notebook: str, error: OSError) -> None:
        """Do without the cache; whoever waits for a lock waits once."""
        self.is_cache_broken = True
        self.warn(notebook, f"has outputs that cannot be noted or recalled: {error}")

    def warn(self, notebook: str, text: str) -> None:
        """Tell the person at the terminal, once; stdout is git's."""
        line = f"litml: {notebook!r} {text}"
        if line not in self.warnings and sys.stderr:  # `print` takes None for stdout
            self.warnings.add(line)
            with suppress(OSError):
                print(line, file=sys.stderr)


# ## All files of a command
# %% serve
def serve(stdin: BinaryIO, stdout: BinaryIO, gate: Filter) -> None:
    """Answer git until it has no more files."""
    try:
        list(read_packets(stdin))
        write_packets(stdout, b"git-filter-server\n", b"version=2\n")
        stdout.flush()
        list(read_packets(stdin))
        write_packets(stdout, b"capability=clean\n", b"capability=smudge\n")
        stdout.flush()
        while True:
            asked = dict(line.split(b"=", 1) for line in read_packets(stdin))
            raw = b"".join(read_packets(stdin))
            command = asked[b"command"].decode().strip()
            notebook = os.fsdecode(asked[b"pathname"].removesuffix(b"\n"))
            data = gate.answer(command, notebook, raw, b"treeish" in asked)
            write_packets(stdout, b"status=success\n")
            write_content(stdout, data)
            write_packets(stdout)
            stdout.flush()
    except (EOFError, BrokenPipeError):
        return


def main(words: list[str]) -> int:
    """Run as git's filter; the one word is the folder that the cache is in."""
    gate = Filter(os.path.join(words[0], "litml", "outputs.sqlite"))
    gc.disable()  # trees of JSON have no cycles, and looking for some takes a sixth
    try:
        with open(0, "rb", buffering=1 << 20, closefd=False) as stdin:
            serve(stdin, sys.stdout.buffer, gate)
    except KeyboardInterrupt:
        return 1
    return 0
