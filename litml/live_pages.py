# Exported from nbs/17a_live_pages.ipynb. Edit either side, then run `litml sync`.
"""The pages of a project as they are at this moment: made when somebody asks, the
rest meanwhile.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Condition, RLock
from typing import Any

from litml.files import state_dir
from litml.notebook import LitmlError, Location
from litml.package import export_project
from litml.rounds import (
    attempt,
    is_made,
    is_rendered,
    load_state,
    save_state,
)
from litml.search import script
from litml.since import CHANGES
from litml.site import (
    Build,
    Frames,
    Plan,
    describe,
    fetch,
    find_uses,
    frame,
    inventories_key,
    list_files,
    make_frames,
    make_order,
    redirect_files,
    search_files,
    start_build,
    state_entry,
)
from litml.sources import Directory, Source, list_sources, module_key
from litml.store import is_inner, make_key
from litml.theme import ThemeError
from litml.workshop import LIBRARIES, make_one, render_one

__all__ = [
    "View",
    "LivePages",
    "refresh",
    "export",
    "gather",
    "make",
    "show",
    "compose",
    "put_into",
    "read_file",
    "find_moved",
    "read_part",
    "look",
    "fill_in",
    "work_through",
    "PAUSE",
    "NEWS",
]


# ## What is shown
# %% View
@dataclass(frozen=True, slots=True)
class View:
    """A page as it is shown now; both empty if there is nothing to show yet."""

    html: str = ""
    key: str = ""


# %% describe-problem
def describe_problem(problem: LitmlError) -> dict[str, str]:
    """Return an error as the page shows it."""
    at = str(problem.at) if problem.at else ""
    return {"message": problem.message, "at": at, "hint": problem.hint or ""}


# ## Beginning
# %% open_build
def open_build(plan: Plan) -> Build:
    """Return the build behind a preview, with what is known of the pages."""
    own = replace(plan, out=state_dir(plan.project.root) / "preview", workers=1)
    build = start_build(own, lambda done, total: None)
    if not build.state.results:
        build.state = load_state(build.store, state_entry(plan))
    return build


# ## Pages that live
# %% LivePages
class LivePages:
    """The pages of a project as they are now, for many threads.

    `read_plan` reads the project's configuration; it raises `LitmlError` if that is
    wrong. With `exports`, the package is written first, as `litml watch` does.
    """

    def __init__(self, read_plan: Callable[[], Plan], exports: bool = True) -> None:
        self.read_plan = read_plan
        self.exports = exports
        self.lock = RLock()
        self.news = Condition()
        self.version = self.round = 0
        self.problems: dict[str, list[LitmlError]] = {}
        self.good: dict[str, View] = {}
        self.unsaved = False
        self.known = ""
        self.made: set[str] = set()
        self.written: dict[str, int] = {}
        self.begin(read_plan())
        refresh(self)

    def begin(self, plan: Plan) -> None:
        """Begin with a plan, the first one or another."""
        build = open_build(plan)
        with self.lock:
            self.plan, self.build = plan, build
            self.links = find_uses(build)
            self.forget()

    @property
    def sources(self) -> dict[str, Source]:
        """The notebooks, by the names of their pages."""
        return {source.name: source for source in self.build.sources}

    def forget(self) -> None:
        """Take in that names may lead elsewhere, or that titles have changed."""
        self.directory: Directory | None = None
        self.frames: Frames | None = None
        self.rendered: set[str] = set()

    def tell(self) -> None:
        """Have every page looked at again by those who show it."""
        with self.lock:
            self.views: dict[str, View] = {}
            self.files: dict[str, bytes] = {}
        with self.news:
            self.version += 1
            self.news.notify_all()

    def wait(self, seen: int, seconds: float) -> int:
        """Return the version as soon as it is not what was seen, or after a time."""
        with self.news:
            self.news.wait_for(lambda: self.version != seen, seconds)
            return self.version

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Note what goes wrong, by what it concerns, and go on."""
        self.problems.pop(what, None)
        try:
            yield
        except LitmlError as error:
            self.problems[what] = [error]
        except Exception as error:  # a preview goes on, whatever it meets
            message = f"{type(error).__name__}: {error}"
            self.problems[what] = [LitmlError(message, at=Location(what))]


# ## A new round
# %% refresh
def refresh(pages: LivePages) -> None:
    """Begin a new round: take in whatever has changed on the disk."""
    for what in pages.problems.keys() - {one.path for one in pages.build.sources}:
        del pages.problems[what]
    with pages.noting("pyproject.toml"):
        plan = pages.read_plan()
        if plan != pages.plan:
            pages.begin(plan)
    with pages.noting("export"):
        if wrong := export(pages):
            pages.problems["export"] = wrong
    with pages.lock:
        with pages.noting("notebooks"):
            gather(pages)
        with pages.noting("inventories"):
            known = inventories_key(pages.build)
            if known != pages.known:
                pages.known = known
                pages.forget()
        module_key.cache_clear()
        LIBRARIES.clear()  # a class may inherit from what has just changed
        pages.frames = None
        pages.rendered.clear()
        pages.made.clear()
        pages.round += 1
    pages.tell()


def export(pages: LivePages) -> list[LitmlError]:
    """Export the package; return what stands against it."""
    project = pages.plan.project
    if not pages.exports or project.nbdev:
        return []
    report = export_project(project)
    written = [str(project.root / name) for name in report.written]
    pages.written = {path: os.stat(path).st_mtime_ns for path in written}
    return [*report.problems, *report.stale]


def gather(pages: LivePages) -> None:
    """List the notebooks; what is known of others is forgotten."""
    build, plan = pages.build, pages.build.plan
    more = [source for source in build.sources if source.path == CHANGES]
    build.sources = [*list_sources(plan.project, plan.settings), *more]
    paths = {source.path for source in build.sources}
    for known in (build.state.facts, build.state.results, pages.problems):
        for path in [one for one in known if one.endswith(".ipynb")]:
            if path not in paths:
                del known[path]
                pages.forget()


# ## A page
# %% make
def make(pages: LivePages, source: Source) -> None:
    """Make the page of a notebook, once a round, if it has changed."""
    shop, facts, path = pages.build.shop, pages.build.state.facts, source.path
    if path in pages.made:
        return
    pages.made.add(path)
    old = facts.get(path)
    if is_made(source, old, shop):
        pages.problems.pop(path, None)
        return
    done = attempt(partial(make_one, shop=shop), source, path)
    if isinstance(done, LitmlError):
        pages.problems[path] = [done]
        return
    pages.problems.pop(path, None)
    facts[path] = done
    pages.unsaved = True
    if old is None or replace(old, key=done.key, needs=done.needs) != done:
        pages.forget()


# %% render
def render(pages: LivePages, source: Source) -> None:
    """Render the page of a notebook, once a round, if it would be another one now."""
    build, path, results = pages.build, source.path, pages.build.state.results
    facts = build.state.facts.get(path)
    if facts is None or path in pages.rendered:
        return
    pages.rendered.add(path)
    pages.directory = directory = pages.directory or build.directory
    order = make_order(source, facts, build.shop, pages.known, pages.links)
    build.orders[path] = order
    old = results.get(path)
    if path in pages.problems or is_rendered(order, old, build.shop, directory):
        return
    work = partial(render_one, shop=build.shop, directory=directory)
    done = attempt(work, order, path)
    if isinstance(done, LitmlError):
        pages.problems[path] = [done]
        return
    results[path] = done
    pages.unsaved = True
    pages.frames = pages.frames if old else None


# %% show
def show(pages: LivePages, name: str) -> View | None:
    """Return a page by its name; None if there is no such page."""
    with pages.lock:
        source = pages.sources.get(name)
        if source is None:
            other = read_file(pages, "index.html") if name == "index" else None
            return View(other.decode(), make_key(other)) if other else None
        if name not in pages.views:
            make(pages, source)
            render(pages, source)
            pages.views[name] = compose(pages, source)
        return pages.views[name]


def compose(pages: LivePages, source: Source) -> View:
    """Return a page in its frame, or the last one that was good."""
    state, view = pages.build.state, pages.good.get(source.name)
    if source.path in state.facts and source.path in state.results:
        with pages.noting(f"theme {source.name}"):
            view = put_into(pages, find_frames(pages), source)
            pages.good[source.name] = view
        with suppress(LitmlError):
            view = view or put_into(pages, plain_frames(pages), source)
    return view or View()


def put_into(pages: LivePages, frames: Frames, source: Source) -> View:
    """Return a page in one of these frames."""
    build, state = pages.build, pages.build.state
    html = fetch(build, source)["html"]
    about = describe(build, source, state.facts[source.path])
    text = frame(frames, about, html, state.results[source.path])
    return View(text, make_key(text))


# %% find-frames
def find_frames(pages: LivePages) -> Frames:
    """Return what all frames have in common."""
    if pages.frames is None:
        try:
            pages.frames = make_frames(pages.build)
        except ThemeError as error:
            pages.problems["theme"] = [error]
            pages.frames = plain_frames(pages)
    return pages.frames


def plain_frames(pages: LivePages) -> Frames:
    """Return the same without the project's own theme."""
    plan = pages.build.plan
    plain = replace(plan, settings=replace(plan.settings, theme=""))
    return make_frames(replace(pages.build, plan=plain))


# ## What else a site has
# %% read_file
def read_file(pages: LivePages, path: str) -> bytes | None:
    """Return a file of the site that is not a page; None if there is none."""
    with pages.lock:
        if path.startswith("_static/"):
            return find_frames(pages).theme.files.get(path.removeprefix("_static/"))
        if (data := read_part(pages, path)) is not None:
            return data
        folder = pages.build.plan.target.resolve()
        asset = (folder / path).resolve()
        if is_inner(path) and asset.is_relative_to(folder) and asset.is_file():
            return asset.read_bytes()
        if not pages.files:
            with pages.noting("search"):
                build, frames = pages.build, find_frames(pages)
                pages.files = {
                    **dict(search_files(build)),
                    **dict(list_files(build, frames)),
                }
        return pages.files.get(path)


def find_moved(pages: LivePages, path: str) -> bytes | None:
    """Return the page that leads on from an old address; None if it is none."""
    with pages.lock, pages.noting("redirects"):
        return dict(redirect_files(pages.build, find_frames(pages))).get(path)
    return None


def read_part(pages: LivePages, path: str) -> bytes | None:
    """Return what belongs to one page: its Markdown, or glances at its symbols."""
    name, _, kind = path.removeprefix("_search/g/").rpartition(".")
    source = pages.sources.get(name)
    view = show(pages, name) if source and kind in ("md", "js") else None
    if source is None or not view or not view.key:
        return None
    kept = fetch(pages.build, source)
    if kind == "md":
        return str(kept["markdown"]).encode("utf-8", "replace")
    glances = {one: [*told, ""][:2] for one, told in kept["glances"].items()}
    return script(f"g/{name}", glances)


# ## What is wrong
# %% look
def look(pages: LivePages, name: str) -> dict[str, Any]:
    """Return what is news of a page: its key, and everything that is wrong."""
    with pages.lock:
        view = show(pages, name)
        source = pages.sources.get(name)
        found = [
            describe_problem(one) for some in pages.problems.values() for one in some
        ]
    if view is None:
        hint = "was it renamed, or removed?"
        found.append({"message": "this page has no notebook", "at": "", "hint": hint})
    path = source.path if source else ""
    found.sort(key=lambda one: not one["at"].startswith(path))
    problems = [one for n, one in enumerate(found) if one not in found[:n]]
    return {"key": view.key if view else "", "problems": problems}


# ## In the background
# %% fill_in
def fill_in(pages: LivePages) -> bool:
    """Do what is left to do; False if a new round has begun meanwhile."""
    now = pages.round
    if not work_through(pages, make, now):
        return False
    with pages.lock, pages.noting("links"):
        links = find_uses(pages.build)
        if links != pages.links:
            pages.links = links
            pages.rendered.clear()
    if not work_through(pages, render, now):
        return False
    with pages.lock, pages.noting("store"):
        keep(pages)
    pages.tell()
    return True


def work_through(
    pages: LivePages, work: Callable[[LivePages, Source], None], now: int
) -> bool:
    """Do one thing for all pages; False if a new round has begun meanwhile."""
    told = time.monotonic()
    for source in list(pages.build.sources):
        with pages.lock:
            if pages.round != now:
                return False
            work(pages, source)
        time.sleep(PAUSE)
        if time.monotonic() - told > NEWS:
            pages.tell()
            told = time.monotonic()
    return True


PAUSE = 0.001  # seconds in which whoever waits for the lock gets it
NEWS = 2  # seconds after which open pages are told of pages made meanwhile


# %% keep
def keep(pages: LivePages) -> None:
    """Keep what is known for the next time."""
    if not pages.unsaved:
        return
    build = pages.build
    save_state(build.store, state_entry(build.plan), build.state)
    pages.unsaved = False
    shown = {name for one in build.state.results.values() for name in one.assets}
    target = build.plan.target
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if path.relative_to(target).as_posix() not in shown:
            path.unlink()
