# Exported from nbs/13g_session.ipynb. Edit either side, then run `litml sync`.
"""What one run of pytest knows of a project: its policy, its options, and which
notebook is run with which values.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from litml.cells import split_words
from litml.front import read_front
from litml.notebook import Notebook, suggest
from litml.params import check_words, label, read_params, split_pairs
from litml.project import Project, find_project, list_notebooks
from litml.run import Policy, Runner, Step, make_policy, plan_notebook
from litml.testing import Testing, check_names, read_testing, rows_of
from litml.text import is_notebook, read_source

if TYPE_CHECKING:
    from litml.ahead import Ahead
    from litml.kernel import Loop

__all__ = [
    "Opened",
    "choose_policy",
    "measure_codes",
    "Shared",
    "KERNELS",
    "import_apart",
    "SHARED",
    "shared_of",
    "list_rows",
    "refuse_words",
    "BEFORE",
    "plan_before",
    "find_before",
]


# ## A project
# %% Opened
@dataclass(frozen=True, slots=True)
class Opened:
    """A project, its policy, and which files are its notebooks.

    `artifacts` is where executed copies of failed notebooks go, `outputs` whether the
    stored outputs of all cells are compared, `before` what was found in folders.
    """

    project: Project
    testing: Testing
    policy: Policy
    notebooks: frozenset[Path]
    artifacts: Path | None = None
    outputs: bool = False
    before: dict[Path, tuple[Path, ...]] = field(default_factory=dict)


# %% choose_policy
def choose_policy(config: pytest.Config, project: Project, testing: Testing) -> Policy:
    """Return the project's policy with what the command line says."""
    asked = split_words(config.getoption("--litml-needs"))
    policy = make_policy(project, [*testing.needs, *asked])
    timeout = config.getoption("--litml-timeout")
    if timeout is not None:
        policy = replace(policy, timeout=timeout)
    if config.getoption("--litml-jobs") > 1 or hasattr(config, "workerinput"):
        policy = replace(policy, observe=True)  # to tell neighbours apart
    if codes := measure_codes(config):
        policy = replace(policy, opening=codes[:1], closing=codes[1:])
    return policy


# %% measure_codes
def measure_codes(config: pytest.Config) -> tuple[str, ...]:
    """Return the code that measures coverage in kernels; none if nobody wants that."""
    plugin = config.pluginmanager.getplugin("_cov")
    controller = getattr(plugin, "cov_controller", None)
    measure = getattr(controller, "cov", None)
    if measure is None or getattr(plugin, "_disabled", False):
        return ()
    from litml.coverage import copy_options, coverage_codes

    folder = Path(getattr(controller, "topdir", config.rootpath))
    return coverage_codes(copy_options(measure, folder))


# %% Shared
class Shared:
    """What belongs to one session of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.projects: dict[Path, Opened] = {}
        self.loop: Loop | None = None
        self.ahead: Ahead | None = None
        self.params: set[str] = set()  # names of parameters of any notebook

    def open_project(self, root: Path) -> Opened:
        """Return the project at `root`. Raises `LitmlError` if its table is wrong."""
        if root not in self.projects:
            project = find_project(root)
            testing = read_testing(project)
            notebooks = list_notebooks(project)
            names = [path.relative_to(project.notebooks_dir) for path in notebooks]
            check_names(testing, [name.as_posix() for name in names])
            policy = choose_policy(self.config, project, testing)
            self.projects[root] = Opened(
                project,
                testing,
                policy,
                frozenset(notebooks),
                self.find_artifacts(project, testing),
                testing.outputs or bool(self.config.getoption("--litml-outputs")),
            )
        return self.projects[root]

    def warm_up(self, runner: Runner) -> None:
        """Have the fork server for a notebook begin to import."""
        if not self.config.option.collectonly and runner.last:
            import_apart(KERNELS)
            from litml.warm import prepare

            early = self.config.pluginmanager.getplugin("litml-early")
            prepare(runner.policy.paths, runner.warmth, early)

    def find_artifacts(self, project: Project, testing: Testing) -> Path | None:
        """Return the folder for executed copies, if they are wanted."""
        if asked := self.config.getoption("--litml-artifacts"):
            return Path(self.config.invocation_params.dir, str(asked))
        return project.root / testing.artifacts if testing.artifacts else None

    def open_loop(self) -> "Loop":
        """Return the event loop, which runs in a thread from now on."""
        import_apart(KERNELS)
        from litml.kernel import Loop

        self.loop = self.loop or Loop()
        return self.loop

    def reach(self, runner: Runner, index: int) -> None:
        """Run a notebook up to a step, or a failure. Raises `LitmlError`.

        If it runs ahead of its turn, only wait for that.
        """
        self.run_ahead(1).reach(runner, index)

    def run_ahead(self, jobs: int) -> "Ahead":
        """Return what runs notebooks ahead of their turn, `jobs` at a time."""
        import_apart(KERNELS)
        from litml.ahead import Ahead

        self.ahead = self.ahead or Ahead(self.open_loop(), jobs)
        return self.ahead

    def release(self, runner: Runner) -> None:
        """End a notebook's kernel."""
        if self.ahead:
            self.ahead.release(runner)


KERNELS = ("litml.ahead", "litml.warm", "jupyter_core.paths")


def import_apart(names: Sequence[str]) -> None:
    """Import modules where Ctrl-C cannot strike, in a thread.

    In the midst of an import it may be lost, and leave Python's import lock taken.
    """
    if missing := [name for name in names if name not in sys.modules]:
        thread = Thread(target=lambda: [import_module(name) for name in missing])
        thread.start()
        thread.join()


SHARED = pytest.StashKey[Shared]()


def shared_of(config: pytest.Config) -> Shared:
    """Return what belongs to the session of this configuration."""
    return config.stash.setdefault(SHARED, Shared(config))


# ## Which values
# %% list_rows
def list_rows(
    notebook: Notebook, opened: Opened, words: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return the values to test a notebook with, one mapping for each time.

    `words` are the command line's. Raises `LitmlError` for values that do not fit.
    """
    name = notebook.name
    folder = opened.project.config.notebooks.rstrip("/") + "/"
    rows = rows_of(opened.testing, name.removeprefix(folder), read_front(notebook).rows)
    pairs = split_pairs(words)
    known = read_params(notebook) if pairs else {}
    given = [f"{key}={text}" for key, text in pairs.items() if key in known]
    more = check_words(notebook, given) if given else {}
    merged = [{**row, **more} for row in rows or [{}]]
    labels = [label(row) for row in merged]
    return [row for i, row in enumerate(merged) if labels[i] not in labels[:i]]


# %% refuse_words
def refuse_words(words: Sequence[str], known: set[str]) -> None:
    """Raise `pytest.UsageError` for a parameter that no collected notebook has."""
    for name in split_pairs(words):
        if name not in known:
            hint = suggest(name, sorted(known))
            more = f"\n  hint: {hint}" if hint else ""
            message = f"no notebook of these has a parameter `{name}`{more}"
            raise pytest.UsageError(message)


# ## What is run before
# %% plan_before
BEFORE = ("_conftest.ipynb", "_conftest.py", "_conftest.md")


def plan_before(path: Path, opened: Opened) -> Iterator[Step]:
    """Yield the steps to run before the notebook at `path`; raises `LitmlError`."""
    root = opened.project.root
    folders = [folder for folder in path.parents if folder.is_relative_to(root)]
    for folder in reversed(folders):
        for file in find_before(folder, opened):
            if file != path:
                notebook = read_source(file, opened.project.name_of(file))
                for step in plan_notebook(notebook, opened.policy):
                    yield replace(step, notebook=notebook.name)


def find_before(folder: Path, opened: Opened) -> tuple[Path, ...]:
    """Return the files that go before the notebooks of a folder; looks only once."""
    if folder not in opened.before:
        files = (folder / name for name in BEFORE)
        found = tuple(one for one in files if one.is_file() and is_notebook(one))
        opened.before[folder] = found
    return opened.before[folder]
