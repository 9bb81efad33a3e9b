# Exported from nbs/train/05a_state.ipynb. Edit either side, then run `litml sync`.
"""Write all that a training is to a folder, whole or not at all, and go on from it."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from litml.train.device import TrainError
from litml.train.events import Run

__all__ = [
    "FORMAT",
    "WEIGHTS",
    "STATE",
    "FACTS",
    "write_state",
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
    work = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    save_model(run.model, str(work / WEIGHTS))
    parts = {name: part.state_dict() for name, part in run.parts.items()}
    state = {"step": run.step, "history": run.history, "parts": parts}
    torch.save(state, work / STATE)
    facts = {"format": FORMAT, "torch": str(torch.__version__)}
    facts |= {"epoch": run.epoch, "step": run.step, **run.logs}
    (work / FACTS).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    read_file(work / STATE)  # a state that cannot be read back is none
    for path in work.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    rotate(folder, keep)
    work.rename(folder)
    shutil.rmtree(numbered(folder, keep), ignore_errors=True)


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
        return torch.load(path, "cpu", weights_only=True, mmap=True)
    except Exception as error:
        hint = "it may be damaged, or hold more than tensors and plain values"
        raise TrainError(f"{path} cannot be read: {error}", hint) from error


def read_state(folder: Path) -> dict[str, Any]:
    """Return the state of a run in a folder, after a look at its format."""
    facts = read_file(folder / FACTS)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else facts
        message = f"{folder / FACTS}: format {found!r}, and this library reads {FORMAT}"
        raise TrainError(message, "use the version that wrote it")
    if facts.get("torch") != str(torch.__version__):
        text = f"{folder} was written with torch {facts.get('torch')}"
        warnings.warn(f"{text}: it may not go on bit for bit", stacklevel=2)
    state = read_file(folder / STATE)
    if not isinstance(state, dict) or not {"step", "history", "parts"} <= set(state):
        raise TrainError(f"{folder / STATE} is no state of a training")
    return state


def load_weights(model: nn.Module, folder: Path | str) -> None:
    """Load the weights of a state into a model of the same shape."""
    path = find_state(Path(folder)) / WEIGHTS
    try:
        load_model(model, str(path))
    except Exception as error:
        hint = "it may be damaged, or belong to another model"
        raise TrainError(f"{path} does not fit: {error}", hint) from error


def restore(run: Run, folder: Path, state: dict[str, Any]) -> None:
    """Put weights and parts back into a run that is ready to start."""
    load_weights(run.model, folder)
    saved = dict(state["parts"])
    for name, part in run.parts.items():
        if name not in saved:
            raise TrainError(f"{folder / STATE} has no {name}", "it was made without")
        try:
            part.load_state_dict(saved.pop(name))
        except Exception as error:
            raise TrainError(f"{folder / STATE}, {name}: {error}") from error
    if saved:
        warnings.warn(f"{folder / STATE}: not used: {', '.join(saved)}", stacklevel=2)
