# Exported from nbs/13_testing.ipynb. Edit either side, then run `litml sync`.
"""Read what a project says about its tests, and look at a kernel from inside."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from litml.files import state_dir
from litml.front import read_rows
from litml.notebook import LitmlError, Location, suggest
from litml.project import ConfigError, Kind, Project, check_table, list_notebooks

__all__ = [
    "Testing",
    "KINDS",
    "read_testing",
    "is_pair",
    "check_pattern",
    "Wishes",
    "pytest_words",
    "list_paths",
    "names_notebooks",
    "find_results",
    "NOTHING",
    "SPREAD",
    "is_due",
    "rows_of",
    "check_names",
    "hide",
    "ANSWER",
    "run_apart",
    "find_answers",
]


# ## The table
# %% Testing
@dataclass(frozen=True, slots=True)
class Testing:
    """The table `[tool.litml.test]`.

    `rtol` and `atol` are relative and absolute tolerances of numbers in outputs,
    `pixels` is the share of an image that may differ. `sanitize` holds pairs of a
    pattern and what it is replaced with. `params` maps patterns of names to rows.
    """

    args: tuple[str, ...] = ()
    jobs: int | str = 1
    needs: tuple[str, ...] = ()
    artifacts: str = ""
    store: str = ""
    outputs: bool = False
    rtol: float = 1e-6
    atol: float = 0.0
    pixels: float = 0.0
    sanitize: tuple[tuple[str, str], ...] = ()
    params: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)


# %% read_testing
KINDS: dict[str, Kind] = {
    "args": (list, "a list of strings"),
    "jobs": ((int, str), 'a number, or "auto"'),
    "needs": (list, "a list of strings"),
    "artifacts": (str, "the name of a folder"),
    "store": (str, "the name of a folder"),
    "outputs": (bool, "true or false"),
    "rtol": ((int, float), "a number"),
    "atol": ((int, float), "a number"),
    "pixels": ((int, float), "a number from 0 to 1"),
    "sanitize": (tuple, "a list of pairs of a pattern and its replacement"),
    "params": (dict, "a table from names of notebooks to rows"),
}


def read_testing(project: Project) -> Testing:
    """Return the project's table. Raises `ConfigError` at the first wrong key."""
    table = dict(project.config.tables.get("test", {}))
    at = Location("pyproject.toml")
    pairs = table.get("sanitize", [])
    if isinstance(pairs, list) and all(is_pair(pair) for pair in pairs):
        table["sanitize"] = tuple((pair[0], pair[1]) for pair in pairs)
    check_table(table, KINDS, "tool.litml.test")
    for pattern, _ in table["sanitize"]:
        check_pattern(pattern, at)
    jobs = table.get("jobs", 1)
    if jobs != "auto" and (isinstance(jobs, str) or jobs < 1):
        message = f'`jobs` in [tool.litml.test] is a number, or "auto", not {jobs!r}'
        raise ConfigError(message, at=at)
    lists = {key: tuple(one) for key, one in table.items() if isinstance(one, list)}
    rows = {key: read_rows(one, at) for key, one in table.get("params", {}).items()}
    return Testing(**{**table, **lists, "params": rows})


# %% is_pair
def is_pair(value: object) -> bool:
    """Is it a list of two strings?"""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(isinstance(part, str) for part in value)


def check_pattern(pattern: str, at: Location) -> None:
    """Raise `ConfigError` if it is not a regular expression."""
    import re

    try:
        re.compile(pattern)
    except re.error as error:
        message = f"`sanitize` in [tool.litml.test]: `{pattern}` is no pattern: {error}"
        raise ConfigError(message, at=at) from error


# ## Words for pytest
# %% Wishes
@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of `litml test`; `rest` is for pytest as it stands."""

    needs: str = ""
    timeout: float | None = None
    jobs: str = ""
    artifacts: str = ""
    everything: bool = False
    since: str = ""
    shard: str = ""
    store: str = ""
    short: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()


def pytest_words(testing: Testing, wishes: Wishes) -> list[str]:
    """Return the words for a command line of pytest."""
    words = [*testing.args, "--litml-progress"]
    jobs = wishes.jobs or str(testing.jobs)
    if jobs != "1":
        words.append(f"--litml-jobs={os.cpu_count() or 1 if jobs == 'auto' else jobs}")
    if wishes.needs:
        words.append(f"--litml-needs={wishes.needs}")
    if wishes.timeout is not None:
        words.append(f"--litml-timeout={wishes.timeout:g}")
    if wishes.artifacts:
        words.append(f"--litml-artifacts={wishes.artifacts}")
    words.append("--litml-remember" if wishes.everything else "--litml-changed")
    for name in ("since", "shard", "store"):
        if value := getattr(wishes, name) or getattr(testing, name, ""):
            words.append(f"--litml-{name}={value}")
    for word in wishes.short:
        words += [f"--litml-param={word}"] if "=" in word else ["-p", word]
    return [*words, *wishes.rest]


# ## Whether anything will be run
# %% list_paths
def list_paths(words: Iterable[str]) -> list[Path]:
    """Return the files and folders, from here, among words for pytest."""
    parts = (word.partition("::")[0] for word in words if not word.startswith("-"))
    return [path for part in parts if (path := Path(part)).exists()]


def names_notebooks(words: Iterable[str], folder: Path) -> bool:
    """Can the paths among some words, if there are any, be of notebooks in a folder?"""
    paths = [path.resolve() for path in list_paths(words)]
    return not paths or any(
        path.is_relative_to(folder) or folder.is_relative_to(path) for path in paths
    )


# %% find_results
def find_results(root: Path, store: str, start: Path) -> Path:
    """Return the folder of a project's results; `store` is where `start` sees it."""
    return start / store if store else state_dir(root) / "results"


# %% is_due
NOTHING = {"--collect-only", "--co", "--fixtures", "--markers", "--help", "-h"}
SPREAD = ("-n", "--numprocesses", "--dist")  # to processes that pytest-xdist starts


def is_due(project: Project, testing: Testing, wishes: Wishes, start: Path) -> bool:
    """Is a notebook likely to be run: was one saved after results were kept last?

    `start` is the folder that pytest is to be started in.
    """
    words = [*testing.args, *wishes.rest]
    if any(word in NOTHING or word.startswith(SPREAD) for word in words):
        return False
    if not names_notebooks(words, project.notebooks_dir.resolve()):
        return False
    results = find_results(project.root, wishes.store or testing.store, start)
    try:
        saved = [path.stat().st_mtime for path in list_notebooks(project)]
        kept = results.stat().st_mtime if results.is_dir() else 0
    except (OSError, LitmlError):
        return False
    return bool(saved) and (wishes.everything or max(saved) > kept)


# ## Rows of a notebook
# %% rows_of
def rows_of(
    testing: Testing, name: str, own: tuple[Mapping[str, Any], ...] = ()
) -> tuple[Mapping[str, Any], ...]:
    """Return the rows of parameters for a notebook; `own` are those it has itself.

    `name` is its path below the folder of notebooks. Of patterns the first counts.
    """
    if own:
        return own
    for pattern, rows in testing.params.items():
        if fnmatch(name, pattern) or PurePosixPath(name).name == pattern:
            return rows
    return ()


# %% check_names
def check_names(testing: Testing, names: list[str]) -> None:
    """Raise `ConfigError` for rows of parameters that belong to none of `names`."""
    for pattern in testing.params:
        only = Testing(params={pattern: ({},)})
        if not any(rows_of(only, name) for name in names):
            message = f"[tool.litml.test.params]: there is no notebook `{pattern}`"
            at = Location("pyproject.toml")
            raise ConfigError(message, at=at, hint=suggest(pattern, names))


# ## Code of ours in a kernel
# %% run_apart
def hide(code: str) -> str:
    """Return Python that runs code in a namespace of its own."""
    return f"__import__('builtins').exec({code!r}, {{}})"


ANSWER = "application/vnd.litml+json"


def run_apart(code: str, **values: Any) -> str:
    """Return Python that runs `code` in a namespace of its own, with these values.

    The values are plain ones. `answer(value)` is how the code says something.
    """
    start = (
        "def answer(value):\n"
        "    from IPython import get_ipython\n"
        f"    data = {{{ANSWER!r}: value, 'text/plain': ''}}\n"
        "    get_ipython().display_pub.publish(data)\n"
    )
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return hide(start + given + code)


# %% find_answers
def find_answers(outputs: tuple[dict[str, Any], ...]) -> list[Any]:
    """Return what code of ours has said among the outputs of a cell."""
    data = [output.get("data", {}) for output in outputs]
    return [one[ANSWER] for one in data if ANSWER in one]
