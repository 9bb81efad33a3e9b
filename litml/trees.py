# Exported from nbs/17b_trees.ipynb. Edit either side, then run `litml sync`.
"""The pages as Markdown with the configuration of another documentation engine:
MkDocs, Sphinx or Quarto.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from litml.navigation import Part
from litml.rounds import Progress, save_state
from litml.site import (
    Build,
    Plan,
    SiteReport,
    fetch,
    make_frames,
    run_rounds,
    start_build,
    state_entry,
)
from litml.store import Target

__all__ = [
    "ALERT",
    "Box",
    "read_box",
    "Engine",
    "ENGINES",
    "write_tree",
    "write_pages",
]


# ## Boxes
# %% Box
ALERT = re.compile(r"^> \[!(\w+)\]\n((?:>.*(?:\n|$))*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Box:
    """A callout: its kind in lower case, its title, which may be empty, its text."""

    kind: str
    title: str
    text: str


def read_box(match: re.Match[str]) -> Box:
    """Return the callout that `ALERT` has found."""
    lines = [re.sub("^> ?", "", line) for line in match[2].rstrip("\n").split("\n")]
    title = re.fullmatch(r"\*\*(.+)\*\*", lines[0])
    text = "\n".join(lines[1:] if title else lines).strip("\n")
    return Box(match[1].lower(), title[1] if title else "", text)


# %% settle_boxes
def mkdocs_box(box: Box) -> str:
    """Return a callout as an admonition of Python-Markdown."""
    title = f' "{box.title}"' if box.title else ""
    text = "\n".join(f"    {line}".rstrip() for line in box.text.split("\n"))
    return f"!!! {box.kind}{title}\n\n{text}\n"


def sphinx_box(box: Box) -> str:
    """Return a callout as a directive of MyST."""
    name = f"{{admonition}} {box.title}" if box.title else f"{{{box.kind}}}"
    more = f":class: {box.kind}\n" if box.title else ""
    return f":::{name}\n{more}{box.text}\n:::\n"


def quarto_box(box: Box) -> str:
    """Return a callout as a div of Quarto."""
    title = f"## {box.title}\n\n" if box.title else ""
    return f"::: {{.callout-{box.kind}}}\n{title}{box.text}\n:::\n"


def settle_boxes(markdown: str, write: Callable[[Box], str]) -> str:
    """Return Markdown with its callouts in another dialect."""
    return ALERT.sub(lambda match: write(read_box(match)), markdown)


# ## What the pages are
# %% Tree
@dataclass(frozen=True, slots=True)
class Tree:
    """What an engine is told: the title of the site, and its sections."""

    title: str
    description: str
    url: str
    parts: Sequence[Part]

    @property
    def sections(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """The sections, each with the titles and the files of its pages."""
        for part in self.parts:
            yield part.title, [(one.title, f"{one.name}.md") for one in part.places]

    @property
    def front(self) -> str:
        """A first page, for a project that has none: every engine wants one."""
        lines = [f"# {self.title}", *filter(None, [self.description])]
        for title, pages in self.sections:
            links = "\n".join(f"- [{name}]({file})" for name, file in pages)
            lines += [f"## {title}", links]
        return "\n\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return a text as YAML and Python have it in quotes."""
    return json.dumps(text, ensure_ascii=False)


# %% mkdocs_files
def mkdocs_files(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield what MkDocs reads."""
    lines = [f"site_name: {quoted(tree.title)}"]
    lines += [f"site_description: {quoted(tree.description)}"] * bool(tree.description)
    lines += [f"site_url: {quoted(tree.url)}"] * bool(tree.url)
    lines += ["docs_dir: docs", "markdown_extensions:", "  - admonition"]
    lines += ["  - footnotes", "  - tables", "  - def_list", "  - attr_list"]
    lines += ["nav:", "  - index.md"]
    for title, pages in tree.sections:
        lines.append(f"  - {quoted(title)}:")
        lines += [f"      - {quoted(name)}: {file}" for name, file in pages]
    yield "mkdocs.yml", "\n".join(lines) + "\n"


# %% sphinx_files
def sphinx_files(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield what Sphinx reads; it needs `myst-parser`."""
    enabled = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
    yield (
        "conf.py",
        f"project = {quoted(tree.title)}\n"
        'extensions = ["myst_parser"]\n'
        f"myst_enable_extensions = {json.dumps(enabled)}\n"
        "myst_heading_anchors = 4\n"
        'exclude_patterns = ["_build"]\n'
        'suppress_warnings = ["myst.xref_missing", "myst.header"]\n',
    )


def list_pages(tree: Tree) -> str:
    """Return the lists of pages, for the end of Sphinx's first one."""
    lists = []
    for title, pages in tree.sections:
        files = "\n".join(file.removesuffix(".md") for _, file in pages)
        lists.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{files}\n```\n")
    return "\n" + "\n".join(lists)


# %% quarto_files
def quarto_files(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield what Quarto reads; nothing is executed."""
    lines = ["project:", "  type: website", "  render:", "    - index.md"]
    files = [file for _, pages in tree.sections for _, file in pages]
    lines += [f"    - {file}" for file in files]
    lines += ["website:", f"  title: {quoted(tree.title)}"]
    lines += [f"  description: {quoted(tree.description)}"] * bool(tree.description)
    lines += [f"  site-url: {quoted(tree.url)}"] * bool(tree.url)
    lines += ["  sidebar:", "    contents:", "      - index.md"]
    for title, pages in tree.sections:
        lines += [f"      - section: {quoted(title)}", "        contents:"]
        for name, file in pages:
            lines += [f"          - text: {quoted(name)}", f"            href: {file}"]
    lines += ["format:", "  html:", "    toc: true", "execute:", "  enabled: false"]
    yield "_quarto.yml", "\n".join(lines) + "\n"


# ## The tree
# %% Engine
@dataclass(frozen=True, slots=True)
class Engine:
    """How an engine wants its pages: in which folder, with which boxes and files."""

    folder: str  # of the pages, in the tree
    box: Callable[[Box], str]
    files: Callable[[Tree], Iterator[tuple[str, str]]]
    ending: Callable[[Tree], str] = lambda tree: ""  # of the first page


ENGINES = {
    "mkdocs": Engine("docs", mkdocs_box, mkdocs_files),
    "sphinx": Engine("", sphinx_box, sphinx_files, list_pages),
    "quarto": Engine("", quarto_box, quarto_files),
}


# %% write_tree
def write_tree(
    plan: Plan, engine: str, progress: Progress = lambda done, total: None
) -> SiteReport:
    """Write the source tree for an engine, `mkdocs`, `sphinx` or `quarto`.

    Raises `ConfigError` or `WriteError` for what concerns all of it.
    """
    made = ENGINES[engine]
    build = start_build(replace(plan, out=plan.out / made.folder), progress)
    rendered = run_rounds(build)
    frames = make_frames(build)
    site = frames.site
    tree = Tree(site.title, site.description, site.url, frames.parts)
    top = Target(plan.out) if made.folder else build.target
    for name, text in made.files(tree):
        top.write(name, text.encode())
    for name, markdown in write_pages(build, made, tree):
        build.target.write(f"{name}.md", markdown.encode("utf-8", "replace"))
    build.target.made.update(one for *_, result in build.pages for one in result.assets)
    build.target.finish()
    save_state(build.store, state_entry(build.plan), build.state)
    return SiteReport(
        len(build.pages),
        rendered,
        (*top.written, *build.target.written) if made.folder else (*top.written,),
        tuple(build.target.removed),
        tuple(build.problems),
    )


def write_pages(build: Build, engine: Engine, tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield the names of the pages, and their Markdown in the engine's dialect."""
    for source, facts, _ in build.pages:
        markdown = settle_boxes(fetch(build, source)["markdown"], engine.box)
        end = engine.ending(tree) if facts.name == "index" else ""
        yield facts.name, markdown + end
    if all(facts.name != "index" for _, facts, _ in build.pages):
        yield "index", tree.front + engine.ending(tree)
