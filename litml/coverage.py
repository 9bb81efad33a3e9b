# Exported from nbs/13b_coverage.ipynb. Edit either side, then run `litml sync`.
"""Measure inside kernels which lines of the package the notebooks have run, so that
`pytest --cov` counts them.
"""

import contextlib
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from litml.testing import run_apart
from litml.variables import drop_marks

__all__ = [
    "start_coverage",
    "save_coverage",
    "stop_coverage",
    "coverage_codes",
    "copy_options",
    "place_of",
]


# ## Inside the kernel
# %% start_coverage
def start_coverage(options: dict[str, Any]) -> None:
    """Start measuring in this process, unless that is done already."""
    try:
        import atexit

        import coverage
        from IPython import get_ipython
    except ImportError:
        return
    if coverage.Coverage.current() is None:
        measure = coverage.Coverage(data_suffix=True, **options)
        measure.set_option("run:sigterm", True)
        with contextlib.suppress(Exception):  # since version 7.10
            patched: Any = measure.get_option("run:patch")
            measure.set_option("run:patch", [*patched, "_exit"])
        measure.start()
    atexit.register(stop_coverage)
    if shell := get_ipython():
        shell.events.register("post_run_cell", save_coverage)


def save_coverage(*_: object) -> None:
    """Write what was found so far; what cannot be written now, may be later."""
    import coverage

    measure = coverage.Coverage.current()
    if measure is not None:
        with contextlib.suppress(Exception):
            measure.save()


def stop_coverage() -> None:
    """Stop measuring, and write what was found; a second call does nothing."""
    try:
        import coverage
    except ImportError:
        return
    measure = coverage.Coverage.current()
    if measure is not None:
        measure.stop()
        measure.save()


# %% coverage_codes
def coverage_codes(options: Mapping[str, Any]) -> tuple[str, str]:
    """Return the code to run in a kernel before its first cell and after its last."""
    parts: list[Callable[..., None]] = [start_coverage, save_coverage, stop_coverage]
    text = drop_marks("\n\n".join(inspect.getsource(part) for part in parts))
    head = f"import contextlib\nfrom typing import Any\n\n{text}"
    start = run_apart(f"{head}\n\nstart_coverage(options)\n", options=dict(options))
    return start, run_apart(f"{head}\n\nstop_coverage()\n")


# ## The same measurement
# %% copy_options
def copy_options(measure: Any, folder: Path) -> dict[str, Any]:
    """Return how to measure in another folder what `measure` measures in this one.

    `measure` is a `coverage.Coverage`.
    """
    config = getattr(measure.config, "config_file", None)
    sources = measure.get_option("run:source") or []
    options = {
        "branch": bool(measure.get_option("run:branch")),
        "config_file": os.path.join(folder, config) if config else False,
        "data_file": os.path.join(folder, str(measure.get_option("run:data_file"))),
        "include": measure.get_option("run:include"),
        "omit": measure.get_option("run:omit"),
        "source": [place_of(source, folder) for source in sources] or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def place_of(source: str, folder: Path) -> str:
    """Return a source as it is to be called elsewhere: a folder, or a package."""
    path = folder / source
    return str(path) if path.is_dir() else source
