# Exported from nbs/13a_variables.ipynb. Edit either side, then run `litml sync`.
"""Show the variables at the place of an error, shortly: what a debugger would be
asked first.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from litml.testing import find_answers, run_apart

__all__ = [
    "shorten",
    "list_values",
    "list_frames",
    "make_probe",
    "drop_marks",
    "describe_variables",
    "align",
]


# ## A short value
# %% shorten
def shorten(value: Any, width: int) -> str:
    """Return a value on one line of at most `width` characters, whatever it is."""
    import re
    import reprlib

    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and hasattr(value, "dtype") and len(shape):
            return f"{type(value).__name__} {shape} {value.dtype}"[:width]
        cut = reprlib.Repr()
        cut.maxstring = cut.maxother = cut.maxlong = width
        text = " ".join(re.sub(r" at 0x\w+", "", cut.repr(value)).split())
        return text if len(text) <= width else text[: width - 1] + "…"
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


# %% list_values
def list_values(frame: FrameType, most: int, width: int) -> list[list[str]]:
    """Return names and values of a frame, as far as they say something."""
    import types

    names = list(frame.f_locals)
    if frame.f_locals is frame.f_globals:
        names = [name for name in frame.f_code.co_names if name in frame.f_globals]
    plain = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)
    found = []
    for name in names:
        value = frame.f_locals[name]
        if not name.startswith(("__", ".")) and not isinstance(value, plain):
            found.append([name, shorten(value, width)])
    return found[:most]


# %% list_frames
def list_frames(
    name: str, root: str, everything: bool, most: int, width: int
) -> list[list[Any]]:
    """Return place and values of the frames where the last error passed ours."""
    error = getattr(sys, "last_value", None)
    if error is None or type(error).__name__ != name:
        return []
    trace, frames = error.__traceback__, []
    while trace is not None:
        frame, file = trace.tb_frame, trace.tb_frame.f_code.co_filename
        cell = "ipykernel_" in file or file.startswith("<ipython-input")
        if cell or (file.startswith(root) and "site-packages" not in file):
            values = list_values(frame, most, width)
            place = "" if frame.f_code.co_name == "<module>" else frame.f_code.co_name
            frames.append([place, values])
        trace = trace.tb_next
    return frames if everything else frames[-1:]


# ## Asking the kernel
# %% make_probe
def make_probe(name: str, root: Path, everything: bool = False) -> str:
    """Return code that looks at the variables for an error of the type `name`."""
    parts: list[Callable[..., Any]] = [shorten, list_values, list_frames]
    code = "\n\n".join(inspect.getsource(part) for part in parts)
    head = "import sys\nfrom types import FrameType\nfrom typing import Any\n\n"
    most, width = (40, 400) if everything else (12, 100)
    call = "answer(list_frames(name, root, everything, most, width))\n"
    return run_apart(
        f"{head}{drop_marks(code)}\n\n{call}",
        name=name,
        root=str(root),
        everything=everything,
        most=most,
        width=width,
    )


def drop_marks(code: str) -> str:
    """Return code without the directives that a cell begins with."""
    return "\n".join(line for line in code.split("\n") if not line.startswith("#|"))


# %% describe_variables
def describe_variables(outputs: tuple[dict[str, Any], ...]) -> str:
    """Return the answer of a probe as text for a report; empty if there is none."""
    parts = []
    for place, values in next(iter(find_answers(outputs)), []):
        if values:
            rows = align(values)
            parts.append("\n".join([f"with, in {place}:" if place else "with:", *rows]))
    return "\n".join(parts)


def align(values: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of names and values, the values below each other."""
    width = max(len(name) for name, _ in values)
    return [f"  {name:{width}} = {value}" for name, value in values]
