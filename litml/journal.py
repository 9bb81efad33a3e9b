# Exported from nbs/18b_journal.ipynb. Edit either side, then run `litml sync`.
"""Remember what a release intends and how far it came, through every interruption,
and never a secret.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from litml.files import try_lock
from litml.notebook import LitmlError

__all__ = [
    "ReleaseError",
    "SECRET_NAMES",
    "SECRET_SHAPES",
    "redact",
    "redact_values",
    "Journal",
    "remove_folder",
    "Releases",
]


# %% ReleaseError
class ReleaseError(LitmlError):
    """A release that cannot go on; `code` names the reason for programs and tests."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(redact(f"{message} ({code})"), hint=hint)
        self.code = code


# ## No secrets
# %% redact
SECRET_NAMES = re.compile(r"TOKEN|PASSW|SECRET|API_?KEY|CREDENTIAL", re.I)
SECRET_SHAPES = (
    re.compile(r"pypi-Ag[A-Za-z0-9_-]{10,}"),
    re.compile(r"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"),
    re.compile(r"(?<=://)(?!git@)[^/\s@]+(?=@)"),
    re.compile(r"(?<=uthorization: )\w+ \S+"),
)


def redact(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return a text without secrets, of which `***` is left."""
    values = [value for name, value in environ.items() if SECRET_NAMES.search(name)]
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= 6:  # a shorter one would make holes in ordinary words
            text = text.replace(value, "***")
    for shape in SECRET_SHAPES:
        text = shape.sub("***", text)
    return text


def redact_values(value: Any) -> Any:
    """Return what JSON can say without the secrets in its texts; keys stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_values(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(one) for one in value]
    return value


# ## The file
# %% Journal
class Journal:
    """The events of one release, in a file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "journal.jsonl"
        self.events: list[dict[str, Any]] = []
        raw = self.file.read_bytes() if self.file.exists() else b""
        self.whole = raw.rfind(b"\n") + 1
        try:
            self.events += map(json.loads, raw[: self.whole].splitlines())
        except ValueError as error:
            hint = "look at the remote and the index; then remove that folder"
            message = f"the journal in {folder} is damaged"
            raise ReleaseError("E_JOURNAL", message, hint=hint) from error

    def add(self, event: str, **values: Any) -> None:
        """Write down an event, without the secrets in its values."""
        ours = {name: values.pop(name) for name in ("stage", "code") if name in values}
        told = {"event": event, **ours, **redact_values(values)}
        line = f"{json.dumps(told, ensure_ascii=False)}\n".encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            file.truncate(self.whole)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.whole += len(line)
        self.events.append(json.loads(line))

    def result(self, stage: str) -> dict[str, Any] | None:
        """Return what a stage that is done has left, or None if it is not done."""
        for event in reversed(self.events):
            if event["event"] == "done" and event["stage"] == stage:
                return dict(event["result"])
        return None

    @property
    def done(self) -> list[str]:
        """The stages that are done, in order."""
        return [event["stage"] for event in self.events if event["event"] == "done"]

    @property
    def stopped(self) -> str:
        """Why the last attempt stopped, if that is the last thing that is known."""
        last = self.events[-1] if self.events else {}
        return str(last.get("reason", "")) if last.get("event") == "stop" else ""


# ## What is left over
# %% remove_folder
def remove_folder(folder: Path, tries: int = 4) -> None:
    """Remove a folder, if there is one; what cannot be removed is left."""
    for attempt in range(tries):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1 * attempt)


# ## Which release it is
# %% Releases
class Releases:
    """All releases of a repository; `folder` is in git's common directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def current(self) -> Journal | None:
        """Return the journal of the release under way, if there is one."""
        try:
            name = (self.folder / "current").read_text("utf-8").strip()
        except OSError:
            return None
        known = name and (self.folder / name / "journal.jsonl").exists()
        return Journal(self.folder / name) if known else None

    def begin(self, name: str) -> Journal:
        """Begin a release; from now on it is the current one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("*/*/"):  # by those that are over
            remove_folder(left)
        taken = len(list(self.folder.glob(f"{name}-*")))
        name = f"{name}-{taken + 1}"
        journal = Journal(self.folder / name)
        journal.add("begin", name=name)
        temporary = self.folder / "current.new"
        temporary.write_text(f"{name}\n", "utf-8")
        os.replace(temporary, self.folder / "current")
        return journal

    def end(self) -> None:
        """Let there be no current release any more; its journal is kept."""
        (self.folder / "current").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out. Raises `ReleaseError` if one is in already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+b") as file:
            if not try_lock(file):
                hint = "wait for it, or end it"
                message = "another release of this repository is running"
                raise ReleaseError("E_LOCKED", message, hint=hint)
            yield
