# Exported from nbs/train/16a_prepare.ipynb. Edit either side, then run `litml sync`.
"""A pipeline of preprocessing steps, fitted on the training data alone, saved as
JSON, the very same at training and at prediction time.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from litml.train.columns import (
    ALONE,
    Impute,
    Join,
    OneHot,
    Ordinal,
    PrepareError,
    Standardise,
    Step,
    Table,
    Vocabulary,
    find_missing,
    find_names,
    read_table,
)

__all__ = [
    "Pipeline",
    "make_plain",
    "describe_table",
    "settle_kinds",
    "check_same",
    "give_back",
    "FORMAT",
    "VERSION",
    "save_pipeline",
    "STEPS",
    "load_pipeline",
    "make_step",
    "check_version",
]


# ## Fit and transform
# %% Pipeline
class Pipeline:
    """Steps in order, what each has learned, and what the training data looked like."""

    def __init__(self, steps: Iterable[Step[Any]]) -> None:
        self.steps = list(steps)
        self.states: list[Any] = []
        self.seen: dict[str, dict[str, Any]] = {}  # empty: not fitted

    def fit(self, data: Any) -> Self:
        """Let every step learn from the training data; learn anew if called again.

        Raises `PrepareError` if a step cannot learn from them.
        """
        table: Table = read_table(data)
        seen = describe_table(table)
        if not all(len(values) for values in table.values()):
            raise PrepareError("no samples to learn from")
        states = []
        for step in self.steps:
            state = make_plain(step, step.learn(table))
            table = step.apply(table, state)
            states.append(state)
        self.states, self.seen = states, seen
        return self

    def transform(self, data: Any) -> Any:
        """Return the data after all steps: a table, or an array for an array.

        Tensors come back as tensors. Raises `PrepareError` for data that differ in
        kind from the training data.
        """
        if not self.seen:
            hint = "call fit with the training data, or load_pipeline"
            raise PrepareError("this pipeline is not fitted yet", hint=hint)
        table = settle_kinds(read_table(data), self.seen)
        check_same(self.seen, describe_table(table))
        for step, state in zip(self.steps, self.states, strict=True):
            table = step.apply({name: table[name] for name in table}, state)
        return give_back(data, table)


# %% make_plain
def make_plain(step: Step[Any], state: Any) -> Any:
    """Return the state as JSON gives it back."""
    try:
        return json.loads(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError) as error:
        message = f"the state of {type(step).__name__} is not plain data: {error}"
        hint = "use lists, dicts, strings and finite numbers: array.tolist()"
        raise PrepareError(message, hint=hint) from error


def describe_table(table: Table) -> dict[str, dict[str, Any]]:
    """Return what has to be alike in all data: names, kind and features."""
    return {
        name: {
            "kind": "text" if values.dtype == object else "numbers",
            "features": list(values.shape[1:]),
        }
        for name, values in table.items()
    }


def settle_kinds(table: Table, seen: dict[str, dict[str, Any]]) -> Table:
    """Return the table with numbers for columns of numbers that are all missing."""
    unclear = [
        name
        for name, values in table.items()
        if seen.get(name, {}).get("kind") == "numbers" and find_missing(values).all()
    ]
    return {**table, **{name: table[name].astype(np.float64) for name in unclear}}


def check_same(seen: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> None:
    """Raise `PrepareError` if the columns are not those of the training data."""
    missing, new = seen.keys() - now.keys(), now.keys() - seen.keys()
    if missing or new:
        words = [f"missing: {', '.join(sorted(missing))}"] if missing else []
        words += [f"not in training: {', '.join(sorted(new))}"] if new else []
        raise PrepareError(f"other columns than in training; {'; '.join(words)}")
    for name, column in seen.items():
        if column != now[name]:
            was, got = (
                f"{one['kind']} of shape {tuple(one['features'])} a sample"
                for one in (column, now[name])
            )
            raise PrepareError(f"column `{name}` held {was} in training, now {got}")


def give_back(data: Any, table: Table) -> Any:
    """Return a table or an array, tensors or arrays, as the data were."""
    names = find_names(data)
    given = [data] if names is None else [data[name] for name in names]
    tensor = next((one for one in given if isinstance(one, Tensor)), None)
    made: dict[str, Any] = dict(table)
    if tensor is not None:
        for name, values in table.items():
            if values.dtype != object:
                made[name] = torch.from_numpy(values).to(tensor.device)
    if names is not None:
        return made
    if len(made) > 1:
        hint = f'give a mapping: {{"{ALONE}": …}}'
        raise PrepareError("the steps make several columns of an array", hint=hint)
    return next(iter(made.values()))


# ## Saved and loaded
# %% save
FORMAT, VERSION = "litml.train.prepare", 1


def save_pipeline(pipeline: Pipeline, path: Path) -> None:
    """Write a fitted pipeline as JSON; the file is whole or not there."""
    if not pipeline.seen:
        raise PrepareError("this pipeline is not fitted yet", hint="call fit first")
    steps = [
        {
            "step": type(step).__name__,
            "version": step.version,
            "options": asdict(step),
            "state": state,
        }
        for step, state in zip(pipeline.steps, pipeline.states, strict=True)
    ]
    tree = {
        "format": FORMAT,
        "version": VERSION,
        "columns": pipeline.seen,
        "steps": steps,
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(tree, indent=1, ensure_ascii=False), "utf-8")
    os.replace(partial, path)


# %% load
STEPS: tuple[type[Step[Any]], ...] = (
    Standardise,
    Impute,
    Ordinal,
    OneHot,
    Vocabulary,
    Join,
)


def load_pipeline(path: Path, own: Sequence[type[Step[Any]]] = ()) -> Pipeline:
    """Read a fitted pipeline; `own` are the classes of steps that are not litml's.

    Raises `PrepareError` for another kind or version of file, or an unknown step.
    """
    try:
        tree = json.loads(path.read_text("utf-8"))
        is_ours = tree["format"] == FORMAT
    except (ValueError, TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise PrepareError(f"{path.name} is not a saved pipeline, or is cut off")
    check_version(path.name, tree["version"], VERSION)
    classes = {cls.__name__: cls for cls in (*STEPS, *own)}
    pipeline = Pipeline(make_step(entry, classes) for entry in tree["steps"])
    pipeline.states = [entry["state"] for entry in tree["steps"]]
    pipeline.seen = tree["columns"]
    return pipeline


def make_step(entry: dict[str, Any], classes: dict[str, type[Step[Any]]]) -> Step[Any]:
    """Return the step of an entry of the file."""
    name = entry["step"]
    if name not in classes:
        hint = f"load_pipeline(path, own=[{name}])"
        raise PrepareError(f"the pipeline has an unknown step, {name}", hint=hint)
    check_version(name, entry["version"], classes[name].version)
    try:
        return classes[name](**entry["options"])
    except TypeError as error:
        raise PrepareError(f"{name} has other options now: {error}") from error


def check_version(name: str, found: int, known: int) -> None:
    """Raise `PrepareError` if a state was written by another version."""
    if found != known:
        message = f"{name} was saved by version {found}, this is version {known}"
        hint = "fit again, or use the litml that saved it"
        raise PrepareError(message, hint=hint)
