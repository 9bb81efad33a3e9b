# Exported from nbs/16k_site.ipynb. Edit either side, then run `litml sync`.
"""A site from a project's notebooks: built whole, or only what changed."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from litml.docs_settings import DocsSettings, launch_urls, source_url
from litml.files import state_dir
from litml.inventory import FOLDER, load_inventories, write_inventory
from litml.links import Finding, check_links
from litml.lists import (
    fill_frames,
    find_redirects,
    make_sitemap,
    site_root,
    write_redirects,
)
from litml.navigation import Part, Place, Surroundings, make_parts, surround
from litml.notebook import LitmlError, Location
from litml.page import Heading, Page
from litml.project import ConfigError, Project
from litml.rounds import (
    Progress,
    State,
    load_state,
    make_pages,
    render_pages,
    save_state,
)
from litml.search import Entry, build_search, script
from litml.since import CHANGES, find_changes
from litml.sources import (
    Directory,
    Facts,
    Order,
    Places,
    Result,
    Shop,
    Source,
    list_sources,
    module_key,
    rendered_entry,
    search_entry,
    twin_entry,
    uses_entry,
)
from litml.store import LIST, Store, Target, make_key
from litml.theme import PageFacts, Site, Theme, fill, make_policy, open_theme
from litml.versions import is_newest, is_release, version_files

__all__ = [
    "Plan",
    "SiteReport",
    "Build",
    "start_build",
    "state_entry",
    "run_rounds",
    "Links",
    "make_orders",
    "make_order",
    "find_uses",
    "inventories_key",
    "fetch",
    "fetch_part",
    "Frames",
    "make_frames",
    "describe_site",
    "write_pages",
    "describe",
    "frame",
    "list_contents",
    "write_group",
    "write_rest",
    "redirect_files",
    "search_files",
    "list_files",
    "fill_bare",
    "light",
    "build_site",
    "write_versions",
]


# ## A build
# %% Plan
@dataclass(frozen=True, slots=True)
class Plan:
    """What a build is to do; `out` is the folder of all versions.

    `workers` is how many processes there may be, 0 for one a core.
    """

    project: Project
    settings: DocsSettings
    out: Path
    version: str = ""
    folder: str = ""
    offline: bool = False
    workers: int = 0

    @property
    def target(self) -> Path:
        """The folder that the pages are written into."""
        return self.out / self.folder if self.folder else self.out

    @property
    def released(self) -> str:
        """The version whose tag links to the source lead to; empty for the branch."""
        return self.version if is_release(self.folder) else ""


# %% SiteReport
@dataclass(frozen=True, slots=True)
class SiteReport:
    """What a build did: files written and removed, and what is wrong.

    `problems` are notebooks that are not on the site for it, `findings` what an author
    should look at.
    """

    pages: int
    rendered: int
    written: tuple[str, ...]
    removed: tuple[str, ...]
    problems: tuple[LitmlError, ...] = ()
    findings: tuple[Finding, ...] = ()


# %% Build
@dataclass(slots=True)
class Build:
    """One build in progress; `frames` and `keys` are for the next one."""

    plan: Plan
    store: Store
    state: State
    target: Target
    shop: Shop
    sources: list[Source]
    progress: Progress
    orders: dict[str, Order] = field(default_factory=dict)
    problems: list[LitmlError] = field(default_factory=list)
    frames: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def pages(self) -> list[tuple[Source, Facts, Result]]:
        """The pages that are on the site, in reading order."""
        facts, results = self.state.facts, self.state.results
        return [
            (s, facts[s.path], results[s.path])
            for s in self.sources
            if s.path in results
        ]

    @property
    def directory(self) -> Directory:
        """Where names lead."""
        root, named = self.plan.project.root, self.plan.settings.inventories
        load = partial(load_inventories, root, named)
        return Directory(self.state.facts.values(), load)


# %% start_build
def start_build(plan: Plan, progress: Progress) -> Build:
    """Return a build at its beginning, with what the last one left."""
    project, settings = plan.project, plan.settings
    if not project.notebooks_dir.is_dir():
        hint = "make it, or name another: `notebooks = …` in [tool.litml]"
        message = f"there is no folder `{project.config.notebooks}`"
        raise ConfigError(message, at=Location("pyproject.toml"), hint=hint)
    module_key.cache_clear()
    store = Store(state_dir(project.root) / "docs")
    state = load_state(store, state_entry(plan))
    shop = Shop(
        project.root,
        project.package_dir.parent,
        store.folder,
        plan.target,
        project.config.test_flags,
        settings.trusted,
        source_url(settings, "", plan.released).rstrip("/"),
    )
    target = Target(plan.target, state.stamps)
    sources = list_sources(project, settings, state.facts)
    if found := find_changes(project, settings, store, plan.released):
        sources.append(found[0])
        state.facts[CHANGES] = found[1]
    return Build(plan, store, state, target, shop, sources, progress)


def state_entry(plan: Plan) -> str:
    """Return the name under which a build's state is kept."""
    return f"site {plan.out} {plan.folder} {plan.offline}"


# ## The rounds
# %% run_rounds
def run_rounds(build: Build) -> int:
    """Make and render what has to be; return how many pages were rendered."""
    workers = build.plan.workers
    state, shop, total = build.state, build.shop, len(build.sources)

    def show(half: int) -> Progress:
        return lambda done, of: build.progress(
            half * total + total - of + done, 2 * total
        )

    state.facts, wrong = make_pages(build.sources, state.facts, shop, workers, show(0))
    build.problems += wrong
    build.orders = {order.source.path: order for order in make_orders(build)}
    before = dict(state.results)
    state.results, wrong = render_pages(
        list(build.orders.values()),
        state.results,
        shop,
        build.directory,
        workers,
        show(1),
    )
    build.problems += wrong
    return sum(before.get(path) is not one for path, one in state.results.items())


Links = dict[str, dict[str, tuple[Places, Places]]]  # by module and symbol


def make_orders(build: Build) -> Iterator[Order]:
    """Yield what is to be rendered: every page that could be made."""
    known, links = inventories_key(build), find_uses(build)
    for source in build.sources:
        if facts := build.state.facts.get(source.path):
            yield make_order(source, facts, build.shop, known, links)


def make_order(
    source: Source, facts: Facts, shop: Shop, known: str, links: Links
) -> Order:
    """Return the order for one page; `known` is the key of all other sites."""
    used = links.get(facts.module, {}) if facts.module else {}
    about = json.dumps([dict(facts.needs), used], sort_keys=True)
    key = make_key(source.key, about, shop.source, str(shop.trusted), known)
    return Order(source, key, used)


def find_uses(build: Build) -> Links:
    """Return who uses and who tests each symbol, by module and name."""
    pages = build.state.facts
    key = make_key(*(part for path, one in pages.items() for part in (path, one.key)))
    if (known := build.store.read("links", key)) is not None:
        return cast("Links", known)
    from litml.backlinks import link_uses, uses_from_json

    kept = (build.store.read(uses_entry(path), one.key) for path, one in pages.items())
    links = link_uses(uses_from_json(tree) for tree in kept if tree is not None)
    build.store.write("links", key, links)
    return links


def inventories_key(build: Build) -> str:
    """Return the key of all that is known of other sites; raises if it is wrong."""
    root, named = build.plan.project.root, build.plan.settings.inventories
    files = [root / FOLDER / f"{name}.inv" for name in named]
    texts = (file.read_bytes() if file.is_file() else b"" for file in files)
    key = make_key(repr(sorted(named.items())), *texts)
    if named and build.state.keys.get("inventories") != key:
        load_inventories(root, named)
    build.keys["inventories"] = key
    return key


# %% fetch
def fetch(build: Build, source: Source) -> dict[str, Any]:
    """Return what is kept of a rendered page: its HTML, Markdown and glances."""
    markdown = fetch_part(build, source, twin_entry)
    return {**fetch_part(build, source, rendered_entry), "markdown": markdown}


def fetch_part(build: Build, source: Source, entry: Callable[[str], str]) -> Any:
    """Return an entry of a rendered page, which is rendered anew if that is damaged."""
    for _ in range(2):
        result = build.state.results[source.path]
        kept = build.store.read(entry(source.path), result.content)
        if kept is not None:
            return kept
        from litml.workshop import render_one

        order = build.orders[source.path]
        build.state.results[source.path] = render_one(
            order, build.shop, build.directory
        )
    at = Location(str(build.store.folder))
    raise ConfigError("what is rendered cannot be kept: is the disk full?", at=at)


# ## The frames
# %% Frame
@dataclass(frozen=True, slots=True)
class Frames:
    """What all frames of a site have in common."""

    theme: Theme
    site: Site
    parts: tuple[Part, ...]
    around: Mapping[str, Surroundings]
    listed: Mapping[str, str]  # what a list says of each page
    keys: Mapping[str, str]

    def key(self, name: str, *more: str) -> str:
        """Return what the frame of a page depends on."""
        around = self.around.get(name)
        if around is None or around.part is None:
            return make_key(self.keys["*"], self.keys[""], repr(around), *more)
        near = repr((around.part.title, around.previous, around.next))
        listed = "".join(self.listed[one.name] for one in around.listed)
        return make_key(self.keys["*"], near, listed, *more)


def make_frames(build: Build) -> Frames:
    """Return what the frames of this build have in common."""
    plan, settings = build.plan, build.plan.settings
    theme = open_theme(plan.project.root / settings.theme if settings.theme else None)
    site = describe_site(plan, theme)
    folder = f"{plan.project.config.notebooks}/"
    places = {
        source.path.removeprefix(folder): Place(facts.name, facts.title, facts.summary)
        for source, facts, _ in build.pages
    }
    parts = make_parts(places, settings.sections)
    front = next((one for one in places.values() if one.name == "index"), None)
    titles = [(part.title, part.url) for part in parts]
    listed = {place.name: repr(place) for place in places.values()}
    common = make_key(theme.key, repr(site), repr(titles))
    keys = {"*": common, "": make_key(repr(parts))}
    return Frames(theme, site, parts, surround(front, parts), listed, keys)


def describe_site(plan: Plan, theme: Theme) -> Site:
    """Return what all frames say about the site."""
    settings = plan.settings
    return Site(
        settings.title,
        settings.description,
        settings.language,
        "/".join(filter(None, [settings.url, plan.folder if settings.url else ""])),
        settings.repository,
        plan.version,
        plan.folder,
        "../versions.js" if plan.folder else "",
        "" if plan.offline else make_policy(settings.trusted),
        f"?v={theme.key[:8]}",
        theme.styles,
        theme.scripts,
    )


# %% write_pages
def write_pages(build: Build, frames: Frames) -> None:
    """Write every page, its twin and its glances, unless they are there."""
    for source, facts, result in build.pages:
        page = describe(build, source, facts)
        files = [f"{facts.name}.html", f"{facts.name}.md"]
        files += [f"_search/g/{facts.name}.js"] if facts.symbols else []
        key = frames.key(facts.name, result.content, repr(page))
        build.frames[facts.name] = key
        is_same = build.state.frames.get(facts.name) == key
        if is_same and all(build.target.keep(file) for file in files):
            continue
        kept = fetch(build, source)
        html = frame(frames, page, kept["html"], build.state.results[source.path])
        build.target.write(files[0], html.encode("utf-8", "replace"))
        build.target.write(files[1], kept["markdown"].encode("utf-8", "replace"))
        for file in files[2:]:
            at_a_glance = {
                name: [*one, ""][:2] for name, one in kept["glances"].items()
            }
            build.target.write(file, script(f"g/{facts.name}", at_a_glance))
    for _, _, result in build.pages:
        build.target.made.update(result.assets)


def describe(build: Build, source: Source, facts: Facts) -> PageFacts:
    """Return what the frame of a page says about it."""
    settings, version = build.plan.settings, build.plan.released
    links = dict(launch_urls(settings, facts.notebook, version))
    if url := build.shop.url_of(facts.notebook):
        links["Notebook"] = url
    return PageFacts(
        facts.name,
        facts.title,
        facts.summary,
        f"{facts.name}.html",
        f"{facts.name}.md",
        tuple(links.items()),
    )


def frame(frames: Frames, page: PageFacts, html: str, result: Result) -> str:
    """Return a page in its frame."""
    return fill(
        frames.theme,
        "index.html" if page.name == "index" else "page.html",
        html,
        site=frames.site,
        page=page,
        parts=frames.parts,
        around=frames.around.get(page.name),
        contents=list_contents(result.outline.headings),
        root="../" * page.name.count("/"),
    )


def list_contents(headings: Iterable[Heading]) -> list[Heading]:
    """Return what the contents of a page list: not the deepest, and no methods."""
    return [
        one
        for one in headings
        if ("." not in one.title if one.is_symbol else 1 < one.level < 4)
    ]


# ## The rest of the files
# %% write_group
def write_group(
    build: Build, name: str, key: str, make: Callable[[], Iterable[tuple[str, bytes]]]
) -> None:
    """Write the files that `make` gives, or keep those that were made by the key."""
    build.keys[name] = key
    files = json.loads(build.state.keys.get(f"{name} files", "[]"))
    is_same = build.state.keys.get(name) == key
    if not (is_same and all(build.target.keep(file) for file in files)):
        files = []
        for file, data in make():
            build.target.write(file, data)
            files.append(file)
    build.keys[f"{name} files"] = json.dumps(files)


def write_rest(build: Build, frames: Frames) -> None:
    """Write search, lists, and the static files of the theme."""
    contents = [f"{facts.name} {result.content}" for _, facts, result in build.pages]
    key = make_key(*contents, frames.keys["*"], frames.keys[""])
    write_group(build, "search", make_key(*contents), lambda: search_files(build))
    write_group(build, "lists", key, lambda: list_files(build, frames))
    for file, data in redirect_files(build, frames):
        build.target.write(file, data)
    for name, data in frames.theme.files.items():
        build.target.write(f"_static/{name}", data)
    build.target.write(".nojekyll", b"")  # else GitHub Pages leaves out `_static`


def redirect_files(build: Build, frames: Frames) -> Iterator[tuple[str, bytes]]:
    """Yield a page for each old address; raises `ConfigError` for one that is wrong."""
    known = build.state.facts.values()
    aliases = {one.name: one.front.get("aliases") or "" for one in known}
    pages = {source.name for source in build.sources}
    found = find_redirects(build.plan.settings.redirects, aliases, pages)
    return write_redirects(found, frames.theme, frames.site)


# %% list_files
def search_files(build: Build) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the search index."""
    kept = (fetch_part(build, source, search_entry) for source, _, _ in build.pages)
    entries = (Entry(**entry) for some in kept for entry in some)
    for name, data in build_search(entries).items():
        yield f"_search/{name}", data


def list_files(build: Build, frames: Frames) -> Iterator[tuple[str, bytes]]:
    """Yield the files for machines, and the pages that are made of no notebook."""
    from litml.twins import llms_full, llms_txt

    site, names = frames.site, [facts.name for _, facts, _ in build.pages]
    sections = {part.title: [*map(light, part.places)] for part in frames.parts}
    about = (site.title, site.description)
    yield "llms.txt", llms_txt(*about, sections, site.url).encode()
    twins = (fetch_part(build, source, twin_entry) for source, _, _ in build.pages)
    yield "llms-full.txt", "".join(llms_full(*about, twins)).encode("utf-8", "replace")
    entries = build.directory.list_entries()
    yield "objects.inv", write_inventory(entries, site.title, site.version)
    if site.url:
        yield "sitemap.xml", make_sitemap(site.url, names)
    page, root = PageFacts("404", "Not found"), site_root(site.url or f"/{site.folder}")
    yield "404.html", fill_bare(frames, page, root)
    if "index" not in names:
        page = PageFacts("index", site.title, site.description, "index.html")
        yield "index.html", fill_bare(frames, page, "")


def fill_bare(frames: Frames, page: PageFacts, root: str) -> bytes:
    """Return a page of no notebook: its title and what all pages have."""
    from litml.render import write_head

    html = write_head(light(Place(page.name, page.title, page.summary)))
    about: dict[str, Any] = {"site": frames.site, "parts": frames.parts, "page": page}
    about |= {"root": root, "around": None, "contents": ()}
    return fill(frames.theme, f"{page.name}.html", html, **about).encode()


def light(place: Place) -> Page:
    """Return a page of which only title and summary are known."""
    return Page(place.name, "", "", place.title, place.summary, ())


# ## All together
# %% build_site
def build_site(
    plan: Plan,
    progress: Progress = lambda done, total: None,
) -> SiteReport:
    """Build the site; a notebook that cannot be rendered does not keep it from that.

    Raises `ConfigError`, `ThemeError` or `WriteError` for what concerns all of it.
    """
    build = start_build(plan, progress)
    before = replace(build.state)
    rendered = run_rounds(build)
    frames = make_frames(build)
    write_pages(build, frames)
    write_rest(build, frames)
    if plan.offline:
        fill_frames(build.target)
    build.target.finish()
    if plan.folder:
        write_versions(build)
    state = build.state
    state.frames, state.keys = build.frames, build.keys
    state.stamps = build.target.stamps()
    if state != before:
        save_state(build.store, state_entry(plan), state)
    files = (name for name in build.target.made if not name.endswith(".html"))
    outlines = (result.outline for _, _, result in build.pages)
    return SiteReport(
        len(build.pages),
        rendered,
        tuple(build.target.written),
        tuple(build.target.removed),
        tuple(build.problems),
        tuple(check_links(outlines, files)),
    )


# %% write_versions
def write_versions(build: Build) -> None:
    """Write the list of versions, and the newest release once more as `stable`."""
    plan, above = build.plan, build.plan.out
    try:
        known = (above / "versions.json").read_bytes()
    except OSError:
        known = b""
    top = Target(above)
    for name, data in version_files(known, plan.folder, plan.settings.title).items():
        top.write(name, data)
    if is_newest(known, plan.folder):
        top.write("404.html", (plan.target / "404.html").read_bytes())
        stable = Target(above / "stable")
        for name in sorted(build.target.made - {LIST}):
            stable.write(name, (plan.target / name).read_bytes())
        stable.finish()
