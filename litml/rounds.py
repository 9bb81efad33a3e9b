# Exported from nbs/16i_rounds.ipynb. Edit either side, then run `litml sync`.
"""What has to be made and rendered since the last build, and the work on it, shared
among processes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import litml
from litml.notebook import LitmlError, Location
from litml.page import PageError
from litml.sources import (
    Directory,
    Facts,
    Order,
    Result,
    Shop,
    Source,
    facts_of,
    module_key,
    result_of,
)
from litml.store import Store, make_key

__all__ = [
    "BUILT_ON",
    "MODULES",
    "engine_key",
    "find_version",
    "State",
    "load_state",
    "save_state",
    "FEW",
    "Job",
    "Done",
    "WORK",
    "work_all",
    "count_cores",
    "hire",
    "labour",
    "attempt",
    "Progress",
    "sort_out",
    "make_pages",
    "path_of",
    "is_made",
    "render_pages",
    "order_path",
    "is_rendered",
    "is_answer",
    "is_foreign",
]


# ## What made it
# %% engine_key
BUILT_ON = (
    "griffelib",
    "jinja2",
    "latex2mathml",
    "markdown-it-py",
    "mdit-py-plugins",
    "nh3",
    "pygments",
)


MODULES = """
    backlinks cards cells docments formula front highlight inventory library notebook
    outputs page pages parameters patch prose render safe search signatures sources
    symbols text twins widgets workshop
""".split()


@cache
def engine_key() -> str:
    """Return the key of the program: what renders, and what it builds on."""
    folder = Path(litml.__file__).parent
    modules = [(folder / f"{name}.py").read_bytes() for name in MODULES]
    sizes = [str(path.stat().st_size) for path in sorted(folder.glob("inventories/*"))]
    return make_key(*map(find_version, BUILT_ON), *modules, *sizes)


def find_version(name: str) -> str:
    """Return the version of a library, empty if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


# ## What is known from the last build
# %% State
@dataclass(slots=True)
class State:
    """What one build tells the next one, by notebook; `frames` by file of the site.

    `stamps` are size and time of the files, `keys` what groups of files depended on.
    """

    facts: dict[str, Facts] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    frames: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, list[int]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


def load_state(store: Store, name: str) -> State:
    """Return the state that was kept under a name; an empty one if that is no use."""
    tree = store.read(name, engine_key())
    try:
        facts = {path: facts_of(one) for path, one in tree["facts"].items()}
        results = {path: result_of(one) for path, one in tree["results"].items()}
        return State(facts, results, tree["frames"], tree["stamps"], tree["keys"])
    except (AttributeError, KeyError, TypeError):
        return State()


def save_state(store: Store, name: str, state: State) -> None:
    """Keep the state for the next build."""
    store.write(name, engine_key(), state)


# ## Sharing the work
# %% work_all
FEW = 8
Job = TypeVar("Job")
Done = TypeVar("Done")
WORK: Callable[[Any], Any] | None = None


def work_all(
    work: Callable[[Job], Done],
    jobs: Sequence[Job],
    notebook: Callable[[Job], str],
    workers: int = 0,
) -> Iterator[tuple[Job, Done | LitmlError]]:
    """Yield every job with what came of it, in the order of the jobs.

    `workers` is how many processes there may be; 0 is as many as there are cores.
    """
    workers = min(workers or count_cores(), len(jobs))
    if len(jobs) <= FEW or workers < 2:
        for job in jobs:
            yield job, attempt(work, job, notebook(job))
        return
    first, *jobs = jobs
    yield first, attempt(work, first, notebook(first))
    arguments = (work,)
    with ProcessPoolExecutor(workers, initializer=hire, initargs=arguments) as pool:
        names = map(notebook, jobs)
        try:
            yield from zip(
                jobs, pool.map(labour, jobs, names, chunksize=2), strict=True
            )
        except BrokenProcessPool as error:
            hint = "was it short of memory? `--jobs 1` needs the least"
            raise PageError("a process of the build was killed", hint=hint) from error


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hire(work: Callable[[Any], Any]) -> None:
    """Tell a new process what it is there for."""
    global WORK
    WORK = work


def labour(job: Any, notebook: str) -> Any:
    """Do one job in a process that was hired."""
    assert WORK is not None
    return attempt(WORK, job, notebook)


def attempt(work: Callable[[Job], Done], job: Job, notebook: str) -> Done | LitmlError:
    """Return what comes of a job, or the error for its notebook."""
    try:
        return work(job)
    except LitmlError as error:
        error.at = error.at or Location(notebook)
        return error
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        return PageError(message, at=Location(notebook))
    except Exception as error:  # see above
        message = f"cannot be rendered: {type(error).__name__}: {error}"
        hint = "this should not happen with any notebook: please report it"
        return PageError(message, at=Location(notebook), hint=hint)


# ## The first round
# %% make_pages
Progress = Callable[[int, int], None]


def sort_out(
    jobs: Iterable[tuple[Job, Done | LitmlError]],
    problems: list[LitmlError],
    total: int,
    progress: Progress,
) -> Iterator[tuple[Job, Done]]:
    """Yield what came of the jobs that went well; the other ones are problems."""
    for count, (job, done) in enumerate(jobs, start=1):
        progress(count, total)
        if isinstance(done, LitmlError):
            problems.append(done)
        else:
            yield job, done


def make_pages(
    sources: Sequence[Source],
    known: Mapping[str, Facts],
    shop: Shop,
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> tuple[dict[str, Facts], list[LitmlError]]:
    """Return the facts of all pages by notebook, and what could not be made.

    Only what changed since the facts that are `known` is made.
    """
    stale = [one for one in sources if not is_made(one, known.get(one.path), shop)]
    made: dict[str, Facts] = {}
    problems: list[LitmlError] = []
    if stale:
        from litml.workshop import LIBRARIES, make_one

        LIBRARIES.clear()  # which may be of before an edit
        work = partial(make_one, shop=shop)
        jobs = work_all(work, stale, path_of, workers)
        for source, done in sort_out(jobs, problems, len(stale), progress):
            made[source.path] = done
    wrong = {source.path for source in stale} - made.keys()
    every = {**known, **made}
    return {s.path: every[s.path] for s in sources if s.path not in wrong}, problems


def path_of(source: Source) -> str:
    """Return the notebook of a source."""
    return source.path


def is_made(source: Source, facts: Facts | None, shop: Shop) -> bool:
    """Is what is known of a page still true?"""
    if facts is None or facts.key != source.key:
        return False
    needs = facts.needs.items()
    return all(module_key(shop.packages, name) == key for name, key in needs)


# ## The second round
# %% render_pages
def render_pages(
    orders: Sequence[Order],
    known: Mapping[str, Result],
    shop: Shop,
    directory: Directory,
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> tuple[dict[str, Result], list[LitmlError]]:
    """Return what is known of all rendered pages, and what could not be rendered."""
    stale = [
        o
        for o in orders
        if not is_rendered(o, known.get(o.source.path), shop, directory)
    ]
    again = {order.source.path for order in stale}
    results = {
        order.source.path: known[order.source.path]
        for order in orders
        if order.source.path not in again
    }
    problems: list[LitmlError] = []
    if stale:
        from litml.workshop import render_one

        work = partial(render_one, shop=shop, directory=directory)
        jobs = work_all(work, stale, order_path, workers)
        for order, done in sort_out(jobs, problems, len(stale), progress):
            results[order.source.path] = done
    return results, problems


def order_path(order: Order) -> str:
    """Return the notebook of an order."""
    return order.source.path


def is_rendered(
    order: Order, result: Result | None, shop: Shop, directory: Directory
) -> bool:
    """Is a rendered page what it would be now?"""
    if result is None or result.key != order.key:
        return False
    if not all((shop.out / name).is_file() for name in result.assets):
        return False
    module = order.source.module
    return all(
        is_answer(name, module, found, shop, directory)
        for name, found in result.asked.items()
    )


def is_answer(
    name: str, module: str, found: str | None, shop: Shop, directory: Directory
) -> bool:
    """Would a page that asks for a name be told the same again?"""
    if not name.startswith("file:"):
        own = directory.find(name, module)
        # What other sites have is the same: their inventories are in the order's key.
        return own == found if own or not is_foreign(found) else True
    from litml.safe import answer, read_inside

    return answer(name, module, directory, read_inside(shop.root)) == found


def is_foreign(url: str | None) -> bool:
    """Is it the address of something on another site?"""
    return url is not None and "://" in url
