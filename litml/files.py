# Exported from nbs/03a_files.ipynb. Edit either side, then run `litml sync`.
"""Write a set of files so that all of them change or none does."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from litml.notebook import LitmlError, Location
from litml.stamps import YOUNG, notes_folder

__all__ = [
    "WriteError",
    "Overtaken",
    "state_dir",
    "move_notes",
    "replace_file",
    "Transaction",
    "forget_compiled",
    "locked",
    "try_lock",
]


# %% WriteError
class WriteError(LitmlError):
    """A file that could not be written; nothing has been changed."""


class Overtaken(WriteError):
    """A file that another program has just changed; it was left as it is."""

    def __init__(self, path: Path) -> None:
        at, hint = Location(str(path)), "it was left so; run the command again"
        super().__init__("changed by another program just now", at=at, hint=hint)
        self.path = path


# ## Where litml keeps its own notes
# %% state_dir
def state_dir(root: Path) -> Path:
    """Return the folder of litml's notes on the project; it may not exist yet."""
    return Path(notes_folder(str(root)))


# %% move_notes
def move_notes(root: Path, state: Path) -> None:
    """Bring along the notes from before the project was in a repository."""
    old = root / ".litml"
    if state != old and old.is_dir() and not state.exists():
        with suppress(OSError):
            state.parent.mkdir(parents=True, exist_ok=True)
            old.rename(state)


# %% make_state
def make_state(state: Path) -> None:
    """Create the folder of notes."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        if state.name == ".litml" and not (state / ".gitignore").exists():
            (state / ".gitignore").write_text("*\n", "utf-8")
    except OSError as error:
        raise failed(state, error) from error


# %% failed
def failed(path: Path, error: OSError) -> WriteError:
    """Return the error for a file that the system would not let us write."""
    hint = "nothing was changed; mend that and run the command again"
    reason = error.strerror or str(error)
    return WriteError(f"cannot write: {reason}", at=Location(str(path)), hint=hint)


# ## A file by itself
# %% write_new
def write_new(path: Path, data: bytes, like: Path, mode: int | None = None) -> None:
    """Write a file anew, with these permissions, or those of `like` if it exists."""
    with path.open("wb") as file:
        file.write(data)
    if mode is None and like.exists():
        mode = like.stat().st_mode & 0o7777
    if mode is not None:
        os.chmod(path, mode)


# %% replace_file
def replace_file(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a file in one step, in a folder that is made if need be.

    It keeps the permissions that it has, unless `mode` is given. Raises `OSError`; the
    file is then as it was, and nothing lies beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(temporary, data, path, mode)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


# ## The transaction
# %% Transaction
class Transaction:
    """Files to be written together, under the lock of the folder `state`.

    Use it as a context manager: leaving it without `commit` changes nothing.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.temporaries: dict[Path, Path | None] = {}
        self.list = state / LIST

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.temporaries = {}
        if not journal(self.state).exists():
            sweep(self.state)

    def stage(self, path: Path, data: bytes) -> bool:
        """Write `data` beside `path`; return False if `path` holds it already.

        Of several texts for one path the last one counts.
        """
        path = path.resolve()
        temporary = path.with_name(f".{path.name}.litml-new")
        try:
            if path.exists() and path.read_bytes() == data:
                temporary.unlink(missing_ok=True)
                self.temporaries.pop(path, None)
                return False
            self.temporaries[path] = temporary
            with self.list.open("ab") as file:
                file.write(os.fsencode(temporary) + b"\0")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new(temporary, data, like=path)
            old = time.time_ns() - 2 * YOUNG  # see 02a_stamps
            os.utime(temporary, ns=(old, old))
        except OSError as error:
            raise failed(path, error) from error
        return True

    def remove(self, path: Path) -> None:
        """Let the commit delete `path` along with writing the others."""
        self.temporaries[path.resolve()] = None

    def commit(self, seen: Mapping[Path, bytes | None] | None = None) -> list[Path]:
        """Put all staged files in place; return their paths.

        `seen` is what files held when their new texts were made, None if there was no
        file. Raises `Overtaken` if one holds something else by now.
        """
        known = {path.resolve(): data for path, data in (seen or {}).items()}
        pairs = [(temporary, path) for path, temporary in self.temporaries.items()]
        for path in known.keys() & self.temporaries.keys():
            if read_if_there(path) != known[path]:
                raise Overtaken(path)
        if len(pairs) > 1:
            write_journal(self.state, pairs)
        self.temporaries = {}
        try:
            put_in_place(pairs, known)
        except Overtaken:
            journal(self.state).unlink(missing_ok=True)
            raise
        with suppress(OSError):  # all is in place; the next run tidies up
            journal(self.state).unlink(missing_ok=True)
            self.list.unlink(missing_ok=True)
        return [path for _, path in pairs]

    def look(self, path: Path) -> os.stat_result:
        """Return the status that `path` has, or will have after the commit."""
        return (self.temporaries.get(path.resolve()) or path).stat()


# %% journal
def journal(state: Path) -> Path:
    """Return the path of the journal."""
    return state / "pending.json"


# %% write_journal
def write_journal(state: Path, pairs: list[tuple[Path | None, Path]]) -> None:
    """Note the pairs of temporary file and target, in one step."""
    text = json.dumps([[str(new or ""), str(path)] for new, path in pairs])
    try:
        replace_file(journal(state), text.encode())
    except OSError as error:
        raise failed(journal(state), error) from error


# %% forget_compiled
def forget_compiled(path: Path) -> None:
    """Remove what any Python has compiled of the module at `path`."""
    if path.suffix == ".py":
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            with suppress(OSError):
                compiled.unlink()


# ### What an editor writes meanwhile
# %% replace_seen
def replace_seen(new: Path, path: Path, seen: bytes | None) -> None:
    """Rename `new` to `path`; raises `Overtaken` unless that holds what was seen."""
    old = new.with_suffix(".litml-old")
    old.unlink(missing_ok=True)
    try:
        with suppress(OSError):  # there is no file, or there are no second names
            os.link(path, old)
        if read_if_there(path) != seen:
            raise Overtaken(path)
        os.replace(new, path)
        if old.exists() and old.read_bytes() != seen:
            os.replace(old, path)
            raise Overtaken(path)
    finally:
        old.unlink(missing_ok=True)


def read_if_there(path: Path) -> bytes | None:
    """Return what a file holds, or None if there is none."""
    return path.read_bytes() if path.exists() else None


# %% put_in_place
def put_in_place(
    pairs: list[tuple[Path | None, Path]], seen: Mapping[Path, bytes | None]
) -> None:
    """Rename each temporary file to its target; one that is gone was renamed before.

    A target that has no temporary file is deleted.
    """
    for temporary, path in pairs:
        try:
            if temporary is None:
                path.unlink()
            elif path in seen:
                replace_seen(temporary, path, seen[path])
            else:
                os.replace(temporary, path)
            forget_compiled(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = error.strerror or str(error)
            hint = "make it writable; the next litml command finishes the rest"
            at = Location(str(path))
            raise WriteError(f"cannot replace: {reason}", at=at, hint=hint) from error


# %% recover
def recover(state: Path) -> None:
    """Finish what a killed process had begun to put in place."""
    pending = journal(state)
    try:
        noted = json.loads(pending.read_bytes()) if pending.exists() else []
        pairs = [(Path(new) if new else None, Path(path)) for new, path in noted]
        refuse_edited(pending, pairs)
        put_in_place(pairs, {})
        pending.unlink(missing_ok=True)
        sweep(state)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        hint = "a killed run left this; mend or delete it"
        message = f"cannot be finished: {reason}"
        raise WriteError(message, at=Location(str(pending)), hint=hint) from error


LIST = "temporary.list"


def sweep(state: Path) -> None:
    """Remove the temporary files on the list that were never put in place."""
    names = state / LIST
    if names.exists():
        for name in filter(None, names.read_bytes().split(b"\0")):
            path = Path(os.fsdecode(name))
            for one in (path, path.with_suffix(".litml-old")):
                with suppress(OSError):
                    one.unlink()
        names.unlink()


def refuse_edited(pending: Path, pairs: list[tuple[Path | None, Path]]) -> None:
    """Raise if a file that is still to be replaced was written after the journal."""
    since = pending.stat().st_mtime_ns if pairs else 0
    for new, path in pairs:
        is_open = path.exists() and (new is None or new.exists())
        if is_open and path.stat().st_mtime_ns > since:
            message = "changed since a command was killed that was about to replace it"
            keep = (
                f"delete {new.name}; or rename that to {path.name}"
                if new
                else "move it"
            )
            hint = f"to keep it, {keep}; then run the command again"
            raise WriteError(message, at=Location(str(path)), hint=hint)


# ## One at a time
# %% locked
@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the project's lock; whatever a killed process left is finished first."""
    make_state(state)
    try:
        lock = (state / "lock").open("a+b")
    except OSError as error:
        raise failed(state / "lock", error) from error
    with lock as file:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        recover(state)
        yield


# %% try_lock
def try_lock(file: IO[Any]) -> bool:
    """Lock an open file, unless another process has; the lock ends with it."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file.fileno(), 1 << 30, 0)  # a locked byte cannot be read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
