# Exported from nbs/11b_metrics.ipynb. Edit either side, then run `litml sync`.
"""Report the numbers of a run from inside a notebook, and find them again in its
outputs.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = [
    "MIME",
    "report_metrics",
    "plain_number",
    "find_metrics",
    "read_reports",
]


# ## Reporting
# %% report_metrics
MIME = "application/vnd.litml.metrics+json"


def report_metrics(**values: float) -> None:
    """Report numbers as results of this run; of several reports the last counts.

    Numbers of NumPy and PyTorch are taken as well. Outside of Jupyter they are printed.
    Raises `TypeError` for anything that is no number.
    """
    plain = {name: plain_number(name, value) for name, value in values.items()}
    text = ", ".join(f"{name}={value:.6g}" for name, value in plain.items())
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        print(text)
        return
    if get_ipython() is None:
        print(text)
    else:
        display({MIME: encode_metrics(plain), "text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


def plain_number(name: str, value: Any) -> float | int:
    """Return a value as a number of Python's own; raises `TypeError`."""
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise TypeError(f"the metric `{name}` is no number: {value!r}")
    return value if type(value) is int else float(value)


# %% encode_metrics
def encode_metrics(values: Mapping[str, float]) -> dict[str, float | str]:
    """Return the values as JSON can hold them."""
    return {
        name: value if math.isfinite(value) else repr(value)
        for name, value in values.items()
    }


# ## Finding them again
# %% find_metrics
def find_metrics(outputs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the metrics reported in some outputs; the last value of each counts."""
    return dict(pair for pairs in read_reports(outputs) for pair in pairs.items())


def read_reports(outputs: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, float]]:
    """Yield each report, in order."""
    for output in outputs:
        values = output.get("data", {}).get(MIME)
        if isinstance(values, Mapping):
            yield {
                name: float(value) if isinstance(value, str) else value
                for name, value in values.items()
                if isinstance(value, int | float) or value in ("nan", "inf", "-inf")
            }
