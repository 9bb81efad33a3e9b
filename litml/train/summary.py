# Exported from nbs/train/13_summary.ipynb. Edit either side, then run `litml sync`.
"""A model layer by layer: what shape comes out of each, how many parameters it has,
and which layer a wrong shape stops at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from litml.train.device import move
from litml.train.loop import evaluating
from litml.train.step import call_model, name_layer

__all__ = [
    "describe_shape",
    "watch_batch",
    "note_output",
    "Row",
    "make_rows",
    "Summary",
    "summarize",
]


# ## Shapes
# %% describe_shape
def describe_shape(value: Any) -> str:
    """Return the shapes in a value: `(2, 5)`, `[(2, 5), (1, 2)]`, `{mask: (2, 5)}`."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {describe_shape(v)}' for k, v in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(describe_shape(one) for one in value)}]"
    return type(value).__name__


# ## Watching a batch go through
# %% watch_batch
def watch_batch(model: nn.Module, inputs: Any) -> dict[str, list[str]]:
    """Send the inputs through the model; return the shapes of each layer's outputs."""
    seen: dict[str, list[str]] = {}
    hooks = [
        layer.register_forward_hook(partial(note_output, seen, name))
        for name, layer in model.named_modules()
    ]
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    kept = [] if device.type in ("cpu", "meta", "mps") else [device]
    try:
        with evaluating(model), torch.random.fork_rng(kept, device_type=device.type):
            call_model(model, move(inputs, device))
    except Exception as error:
        name_layer(error, model)
        raise
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def note_output(
    seen: dict[str, list[str]], name: str, layer: nn.Module, args: Any, output: Any
) -> None:
    """Note the shape of an output of the layer; its forward hook."""
    seen.setdefault(name, []).append(describe_shape(output))


# ## A row a layer
# %% Row
@dataclass(frozen=True, slots=True)
class Row:
    """A layer: `parameters` it uses, `new` ones of them, `trainable` of the new."""

    name: str
    kind: str
    outputs: tuple[str, ...]  # of every call; none: the batch did not come by
    parameters: int
    new: int
    trainable: int

    @property
    def output(self) -> str:
        """The shape of the output, and how often the layer was called if not once."""
        shapes = " or ".join(dict.fromkeys(self.outputs)) or "not called"
        return shapes if len(self.outputs) < 2 else f"{shapes} ×{len(self.outputs)}"

    @property
    def count(self) -> str:
        """The number of parameters; in parentheses if they were counted before."""
        return (
            f"{self.parameters:,}"
            if self.new == self.parameters
            else f"({self.parameters:,})"
        )


# %% make_rows
def make_rows(
    model: nn.Module, seen: Mapping[str, list[str]], depth: int | None
) -> Iterator[Row]:
    """Yield the rows, in the order in which the layers are defined."""
    counted: set[int] = set()
    for name, layer in model.named_modules():
        level = name.count(".") + 1 if name else 0
        if depth is not None and level > depth:
            continue
        whole = level == depth or not any(layer.children())
        found = {id(p): p for p in layer.parameters(recurse=whole)}
        if not whole and not found:
            continue
        new = [p for key, p in found.items() if key not in counted]
        counted |= found.keys()
        yield Row(
            name=name or "(model)",
            kind=type(layer).__name__,
            outputs=tuple(seen.get(name, ())),
            parameters=sum(p.numel() for p in found.values()),
            new=sum(p.numel() for p in new),
            trainable=sum(p.numel() for p in new if p.requires_grad),
        )


# ## The table
# %% Summary
@dataclass(frozen=True, slots=True)
class Summary:
    """The layers of a model; printed, a table."""

    rows: tuple[Row, ...]
    bytes: int  # of all parameters and buffers

    @property
    def parameters(self) -> int:
        """The number of parameters, shared ones once."""
        return sum(row.new for row in self.rows)

    @property
    def trainable(self) -> int:
        """The number of those that are not frozen."""
        return sum(row.trainable for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "parameters")
        cells = [head, *((r.name, r.kind, r.output, r.count) for r in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        lines = [
            "  ".join(
                text.ljust(width)
                for text, width in zip(row[:3], widths[:3], strict=True)
            )
            + "  "
            + row[3].rjust(widths[3])
            for row in cells
        ]
        rule = "─" * len(lines[0])
        frozen = self.parameters - self.trainable
        counts = f"{self.parameters:,} parameters, {frozen:,} frozen"
        total = f"{counts}; {self.bytes / 1e6:.2f} MB"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])


def summarize(model: nn.Module, inputs: Any, depth: int | None = None) -> Summary:
    """Return the layers of a model, seen while `inputs` go through it.

    `inputs` are what the model takes, as in a batch: a tensor, a tuple, a mapping.
    When they do not go through, a note on the exception names the layer.
    """
    seen = watch_batch(model, inputs)
    tensors = {id(one): one for one in (*model.parameters(), *model.buffers())}
    size = sum(one.numel() * one.element_size() for one in tensors.values())
    return Summary(tuple(make_rows(model, seen, depth)), size)
