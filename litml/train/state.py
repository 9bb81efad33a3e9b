# Exported from nbs/train/05a_state.ipynb. Edit either side, then run `litml sync`.
"""Write all that a training is to a folder, whole or not at all, and go on from it."""

import json
import os
import pickle
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from litml.train.device import TrainError
from litml.train.events import Run
from litml.train.world import World

__all__ = [
    "FORMAT",
    "WEIGHTS",
    "STATE",
    "FACTS",
    "write_state",
    "name_state",
    "write_parts",
    "numbered",
    "rotate",
    "find_state",
    "read_file",
    "read_state",
    "load_weights",
    "restore",
]


# ## Writing
# %% write-state
FORMAT = 1
WEIGHTS, STATE, FACTS = "model.safetensors", "state.pt", "facts.json"


def write_state(folder: Path, run: Run, keep: int = 1) -> None:
    """Write the state of a run, and keep as many of a name, the newest first."""
    world = run.world
    work = folder.with_name(f".{folder.name}.new")
    if world.rank == 0:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    world.wait()
    world.save_weights(run.model, work / WEIGHTS)
    write_parts(name_state(work, world), run)
    world.wait()
    if world.rank == 0:
        facts = {"format": FORMAT, "torch": str(torch.__version__), "size": world.size}
        facts |= {"epoch": run.epoch, "step": run.step, **run.logs}
        (work / FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        for path in work.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        rotate(folder, keep)
        work.rename(folder)
        shutil.rmtree(numbered(folder, keep), ignore_errors=True)
    world.wait()


def name_state(folder: Path, world: World) -> Path:
    """Return the file of this process: each has a place in the data of its own."""
    return folder / (f"state.{world.rank}.pt" if world.rank else STATE)


def write_parts(path: Path, run: Run) -> None:
    """Write everything but the weights; what cannot be read back is refused now."""
    parts = {name: part.state_dict() for name, part in run.parts.items()}
    kinds = {name: type(part).__name__ for name, part in run.parts.items()}
    state = {"step": run.step, "history": run.history, "parts": parts, "kinds": kinds}
    torch.save(state, path)
    try:
        torch.load(path, "cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"`{found[1]}`" if found else "more than tensors and plain values"
        hint = "`state_dict` of a callback returns tensors, numbers, text, containers"
        raise TrainError(f"a state holds {what}", hint) from error


def numbered(folder: Path, number: int) -> Path:
    """Return the folder that a state has moved to: itself, `.1`, `.2`, ..."""
    return folder.with_name(f"{folder.name}.{number}") if number else folder


def rotate(folder: Path, keep: int) -> None:
    """Make place for a folder: `last` becomes `last.1`, which becomes `last.2`."""
    shutil.rmtree(numbered(folder, keep), ignore_errors=True)
    for number in reversed(range(keep)):
        if numbered(folder, number).exists():
            numbered(folder, number).rename(numbered(folder, number + 1))


# ## Reading
# %% read-state
def find_state(folder: Path) -> Path:
    """Return the newest state in a folder, which may be one itself."""
    last = folder / "last"
    for path in (folder, last, numbered(last, 1)):
        if (path / FACTS).is_file():
            return path
    hint = "a Checkpoint writes `last` and `best` into its folder"
    raise TrainError(f"{folder} holds no state of a training", hint)


def read_file(path: Path) -> Any:
    """Return what a file holds; raises `TrainError` naming the file."""
    try:
        if path.suffix == ".json":
            return json.loads(path.read_bytes())
        return torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        first = str(error).partition("\n")[0]
        hint = "it may be damaged; `resume` also takes a state beside it"
        raise TrainError(f"{path} cannot be read: {first}", hint) from error


def read_state(folder: Path, world: World) -> dict[str, Any]:
    """Return the state of a run in a folder, after a look at its format."""
    facts = read_file(folder / FACTS)
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        message = f"{folder / FACTS}: format {found}, this library reads {FORMAT}"
        raise TrainError(message, "use the version that wrote it")
    if facts.get("size") != world.size:
        message = f"{folder} was written by {facts.get('size')} processes"
        raise TrainError(message, f"here are {world.size}; start as many")
    if facts.get("torch") != str(torch.__version__):
        text = f"{folder} was written with torch {facts.get('torch')}"
        warnings.warn(f"{text}: it may not go on bit for bit", stacklevel=2)
    path = name_state(folder, world)
    state = read_file(path)
    if not isinstance(state, dict) or not {"step", "history", "parts", "kinds"} <= set(
        state
    ):
        raise TrainError(f"{path} is no state of a training")
    return state


# %% restore
def load_weights(
    model: nn.Module, folder: Path | str, world: World | None = None
) -> None:
    """Load the weights of a state into a model of the same shape."""
    path = find_state(Path(folder)) / WEIGHTS
    try:
        (world or World()).load_weights(model, path)
    except Exception as error:
        hint = "it may be damaged, or belong to another model"
        raise TrainError(f"{path} does not fit: {error}", hint) from error


def restore(run: Run, folder: Path, state: dict[str, Any]) -> None:
    """Put weights and parts back into a run that is ready to start."""
    load_weights(run.model, folder, run.world)
    path, saved = name_state(folder, run.world), dict(state["parts"])
    for name, part in run.parts.items():
        if name not in saved:
            hint = "the training that wrote it had none"
            raise TrainError(f"{path} has no state for the {name}", hint)
        kind = type(part).__name__
        if (was := state["kinds"][name]) != kind:
            message = f"{path} was written with {was} as {name}, here is {kind}"
            raise TrainError(message, "go on with what the training was begun with")
        try:
            part.load_state_dict(saved.pop(name))
        except Exception as error:
            raise TrainError(f"{path}, {name}: {error!r}") from error
    if saved:
        warnings.warn(f"{path}: not used: {', '.join(saved)}", stacklevel=2)
