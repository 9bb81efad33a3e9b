# Exported from nbs/13h_unchanged.ipynb. Edit either side, then run `litml sync`.
"""Run only the notebooks that something has changed for, only those a commit can
affect, or this machine's share of them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest

from litml.files import forget_compiled
from litml.items import NotebookFile
from litml.notebook import LitmlError
from litml.observe import (
    gather_evidence,
    list_imported,
    list_patterns,
    read_observed,
)
from litml.params import label
from litml.results import (
    Result,
    Store,
    assign_shards,
    forget,
    is_affected,
    list_changed,
    parse_shard,
)
from litml.run import Runner
from litml.select import (
    Seen,
    digest_environment,
    digest_steps,
    find_change,
    find_packages,
    name_from,
    see_file,
)
from litml.session import BEFORE, measure_codes, shared_of
from litml.testing import find_results

__all__ = ["name_of", "digest_of", "Book", "Wanted", "read_wanted", "Chooser"]


# ## What is known of a notebook
# %% name_of
def name_of(file: NotebookFile) -> str:
    """Return the name under which the result of a notebook is kept."""
    values = f"[{label(file.values)}]" if file.values else ""
    return f"{file.notebook.name}{values}"


def digest_of(file: NotebookFile, runner: Runner) -> str:
    """Return a digest of what is run, and how it is judged."""
    compared = [
        cell.outputs
        for cell in file.notebook.cells
        if file.rules.get(cell.id) is not None
    ]
    policy, spec = runner.policy, file.notebook.metadata.get("kernelspec")
    judged = (policy.strict, sorted(policy.asked))
    return digest_steps(runner.steps, judged, spec, compared, file.rules)


# ## One session
# %% Book
class Book:
    """What is known of the notebooks of one project, in one session."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root = root
        self.store = store
        self.look = cache(see_file)
        self.environment = cache(self.find_environment)

    def find_environment(self, kernel: str) -> str:
        """Return the digest of the environment that kernels of that name run in."""
        return digest_environment(self.root, find_packages(kernel))

    def find_reason(self, file: NotebookFile, runner: Runner) -> str:
        """Return why a notebook has to run; "" if it would only pass again."""
        known = self.store.read(name_of(file))
        if known is None:
            return "it has not passed yet"
        if known.evidence is None:
            return "it did not pass, or it is not known what it depends on"
        digests = digest_of(file, runner), self.environment(file.notebook.kernel)
        reason = find_change(known.evidence, *digests, self.root, self.look)
        if reason:
            self.forget_stale(known.evidence.files)
        return reason

    def forget_stale(self, files: Mapping[str, Seen]) -> None:
        """Have modules that are not as they were compiled anew."""
        for name, seen in files.items():
            path = self.root / name
            if name.endswith(".py") and self.look(path, seen).digest != seen.digest:
                forget_compiled(path)

    def depends_on(
        self, file: NotebookFile, runner: Runner, changed: set[str]
    ) -> set[str]:
        """Return the files that a notebook depends on, or may depend on.

        Whose run has not been watched may read whatever has `changed`, but for code.
        """
        known = self.store.read(name_of(file))
        names = {name_from(self.root, path) for path in self.list_imported(runner)}
        above = [runner.folder, *runner.folder.parents]
        names |= {name_from(self.root, one / name) for one in above for name in BEFORE}
        if known and known.evidence:
            return names.union(known.evidence.files)
        return names | {one for one in changed if not one.endswith((".py", ".ipynb"))}

    def list_imported(self, runner: Runner) -> frozenset[Path]:
        """Return the files, existing or not, that matter by what the steps import."""
        places = [runner.folder, *runner.policy.paths]
        sources = (step.source for step in runner.steps)
        return list_imported(sources, self.root, places)

    def keep(self, file: NotebookFile, runner: Runner, started: float) -> None:
        """Keep what a run has taught, be it only how long it took."""
        name, seconds = name_of(file), sum(run.seconds for run in runner.runs)
        steady = all(not run.failure and run.tries == 1 for run in runner.runs)
        if not steady or file.failed or file.updates:
            forget(self.store, name, seconds if runner.is_complete else None)
            return
        if not runner.is_complete:
            return  # nothing is wrong, and nothing is proved
        found = gather_evidence(
            file.notebook,
            self.root,
            self.list_imported(runner),
            read_observed(runner.files),
            (digest_of(file, runner), self.environment(file.notebook.kernel)),
            started,
        )
        evidence = None if isinstance(found, str) else found
        self.store.write(Result(name, seconds, evidence))


# ## The plug-in
# %% Wanted
@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: to skip what is unchanged, to begin at a commit, a share."""

    unchanged: bool = False
    since: str = ""
    shard: str = ""
    store: str = ""


def read_wanted(config: pytest.Config) -> Wanted:
    """Return what the options ask for."""
    option = config.getoption
    return Wanted(
        bool(option("--litml-changed")),
        str(option("--litml-since") or ""),
        str(option("--litml-shard") or ""),
        str(option("--litml-store") or ""),
    )


# %% warned
@contextmanager
def warned(node: pytest.Collector) -> Iterator[None]:
    """Turn a store that cannot be written to into a warning."""
    try:
        yield
    except OSError as error:
        node.warn(pytest.PytestWarning(f"results are not kept: {error}"))


# %% known_reports
def known_reports(item: pytest.Item) -> Iterator[pytest.TestReport]:
    """Yield the three reports of a test that is not run and passes."""
    said = [*item.user_properties, ("litml", "unchanged")]
    when: tuple[Literal["setup", "call", "teardown"], ...] = (
        "setup",
        "call",
        "teardown",
    )
    for name in when:
        yield pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords=dict.fromkeys(item.keywords, 1),
            outcome="passed",
            longrepr=None,
            when=name,
            user_properties=said,
        )


# %% Chooser
class Chooser:
    """A plug-in that decides which of the collected notebooks run."""

    def __init__(self, wanted: Wanted, folder: Path) -> None:
        self.wanted = wanted
        self.folder = folder
        self.books: dict[Path, Book] = {}
        self.seconds: dict[str, float] = {}
        self.told: dict[str, str] = {}  # why a notebook runs
        self.known: set[NotebookFile] = set()
        self.stale: set[NotebookFile] = set()  # known before the last test ran
        self.keepers: dict[NotebookFile, Callable[[], None]] = {}

    def book_of(self, file: NotebookFile) -> Book:
        """Return what is known of the notebooks of a file's project."""
        root = file.opened.project.root
        if root not in self.books:
            self.books[root] = Book(root, Store(self.results_at(root)))
        return self.books[root]

    def results_at(self, root: Path) -> Path:
        """Return the folder of the results of the project at `root`."""
        return find_results(root, self.wanted.store, self.folder)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Deselect what is not asked for, and mark what is known."""
        files = list(dict.fromkeys(item.parent for item in items))
        notebooks = [one for one in files if isinstance(one, NotebookFile)]
        try:
            left = {*self.not_since(notebooks), *self.not_ours(config, items)}
        except LitmlError as error:
            raise pytest.UsageError(str(error)) from error
        dropped = [item for item in items if item.parent in left or item.path in left]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            gone = set(dropped)
            items[:] = [item for item in items if item not in gone]
        measured = bool(measure_codes(config))
        for file in notebooks:
            if file not in left and file.path not in left:
                self.prepare(file, measured)

    def not_since(self, files: list[NotebookFile]) -> Iterator[NotebookFile]:
        """Yield the notebooks that the changes since a commit cannot affect."""
        if not self.wanted.since:
            return
        changed = cache(list_changed)
        for file in files:
            if file.runner is None:
                continue
            book, name = self.book_of(file), file.notebook.name
            found = changed(book.root, self.wanted.since)
            names = book.depends_on(file, file.runner, found)
            patterns = list_patterns(file.notebook) or ()
            if not is_affected(name, names, patterns, found, book.root):
                yield file

    def not_ours(self, config: pytest.Config, items: list[pytest.Item]) -> set[Path]:
        """Return the files that belong to another machine's share."""
        if not self.wanted.shard:
            return set()
        number, count = parse_shard(self.wanted.shard)
        paths = {
            item.path.relative_to(config.rootpath).as_posix(): item.path
            for item in items
        }
        store = self.store_of(config)
        results = {name: store.read(name) for name in paths}
        known = {name: one.seconds if one else None for name, one in results.items()}
        ours = assign_shards(known, count)[number - 1]
        return {path for name, path in paths.items() if name not in ours}

    def store_of(self, config: pytest.Config) -> Store:
        """Return the store of how long files took, where pytest was started."""
        return Store(self.results_at(config.rootpath) / "files")

    def prepare(self, file: NotebookFile, measured: bool) -> None:
        """Mark a notebook as known, or have its run watched."""
        runner = file.runner
        if runner is None:
            return
        book = self.book_of(file)
        if self.wanted.unchanged and not measured:
            reason = book.find_reason(file, runner)
            if not reason:
                self.known.add(file)
                return
            self.told[file.nodeid] = reason
        shared_of(file.config).warm_up(runner)
        self.watch(file, runner, book)

    def watch(self, file: NotebookFile, runner: Runner, book: Book) -> None:
        """Have the kernel say what it reads, and keep that at the end."""
        runner.policy = replace(runner.policy, observe=True)

        def keep() -> None:
            if runner.runs:  # else no cell was asked for
                started = min(runner.begun.values(), default=0.0)
                with warned(file):
                    book.keep(file, runner, started)

        self.keepers[file] = keep

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        """Report a cell that is known to pass; pytest calls this to run an item."""
        self.look_again(item.parent)
        if item.parent not in self.known or item.get_closest_marker("skip"):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in known_reports(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.session._setupstate.teardown_exact(nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def look_again(self, file: Any) -> None:
        """Decide again about what is known once a test, which may write, has run."""
        if file in self.stale:
            self.stale.remove(file)
            self.known.remove(file)
            self.prepare(file, measured=False)
        if file not in self.known:
            self.stale |= self.known
            for book in self.books.values():
                book.look.cache_clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> None:
        """Keep what a notebook's run has taught, before its last cell is torn down."""
        file = item.parent
        if isinstance(file, NotebookFile) and file is not getattr(
            nextitem, "parent", 0
        ):
            self.keepers.pop(file, lambda: None)()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, Any] | None:
        """Give what is known a word of its own."""
        if (
            report.when != "call"
            or ("litml", "unchanged") not in report.user_properties
        ):
            return None
        return "unchanged", "u", ("UNCHANGED", {"green": True})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up how long each file takes."""
        if ("litml", "unchanged") not in report.user_properties:
            name = report.nodeid.partition("::")[0]
            self.seconds[name] = self.seconds.get(name, 0.0) + report.duration

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how many were known, and, with `-v`, why the others ran."""
        known = terminalreporter.stats.get("unchanged", [])
        names = {report.nodeid.partition("::")[0] for report in known}
        if names:
            some = (
                "1 notebook has" if len(names) == 1 else f"{len(names)} notebooks have"
            )
            line = (
                f"{some} passed before, and nothing has changed since; --all runs all"
            )
            terminalreporter.write_line(line)
        if terminalreporter.verbosity > 0:
            for name, reason in self.told.items():
                if reason:
                    terminalreporter.write_line(f"{name} ran: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep how long the files took, for the shares of the next time."""
        if not hasattr(session.config, "workerinput"):
            store = self.store_of(session.config)
            with warned(session):
                for name, seconds in self.seconds.items():
                    store.write(Result(name, round(seconds, 3)))
