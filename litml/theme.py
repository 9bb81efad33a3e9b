# Exported from nbs/16f_theme.ipynb. Edit either side, then run `litml sync`.
"""The frame around a page: templates, styles and scripts, and how a project puts its
own in their place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litml
from litml.notebook import LitmlError, Location
from litml.store import make_key

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "ThemeError",
    "Theme",
    "HERE",
    "open_theme",
    "read",
    "open_templates",
    "POLICY",
    "make_policy",
    "Site",
    "PageFacts",
    "fill",
    "explain",
]


# ## A theme of one's own
# %% ThemeError
class ThemeError(LitmlError):
    """A template that is wrong."""


@dataclass(frozen=True, slots=True)
class Theme:
    """The files that pages refer to, and the project's folder with templates.

    `key` changes with any file of the theme. `styles` and `scripts` are the project's
    own, by name.
    """

    folder: Path | None
    files: Mapping[str, bytes]
    styles: tuple[str, ...]
    scripts: tuple[str, ...]
    key: str


# %% open_theme
HERE = Path(litml.__file__).with_name("theme")


def open_theme(folder: Path | None = None) -> Theme:
    """Return the theme, with the files of a project's folder in their places."""
    if folder and not folder.is_dir():
        at = Location(str(folder))
        raise ThemeError("there is no such folder", at=at)
    found = {path: data for one in (HERE, folder) if one for path, data in read(one)}
    ours = {path for path, _ in read(HERE)}
    files = {path: data for path, data in found.items() if not path.endswith(".html")}
    more = sorted(files.keys() - ours)
    texts = (part for path in sorted(found) for part in (path, found[path]))
    return Theme(
        folder,
        files,
        tuple(name for name in more if name.endswith(".css")),
        tuple(name for name in more if name.endswith(".js")),
        make_key(*texts),
    )


def read(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder, by their paths below it."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part[0] in "._" for part in name.split("/")):
            yield name, path.read_bytes()


@lru_cache(maxsize=4)
def open_templates(folder: Path | None, key: str) -> "Environment":
    """Return the templates: those of the project's folder first."""
    from jinja2 import (
        ChoiceLoader,
        Environment,
        FileSystemLoader,
        PrefixLoader,
        StrictUndefined,
    )

    ours = FileSystemLoader(HERE)
    own = [FileSystemLoader(folder)] if folder else []
    return Environment(
        loader=ChoiceLoader([*own, ours, PrefixLoader({"default": ours})]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


# ## What a template knows
# %% Site
POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline';"
    " script-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'"
)


def make_policy(trusted: bool) -> str:
    """Return what a browser may load; trusted prose may show what is elsewhere."""
    wider = (
        "img-src 'self' data: https:; media-src 'self' https:; frame-src 'self' https:"
    )
    return POLICY.replace("img-src 'self' data:", wider) if trusted else POLICY


@dataclass(frozen=True, slots=True)
class Site:
    """What the frame of every page says about the site.

    `folder` is that of the version, `versions` the way to the list of them, `stamp`
    what is put behind the address of a static file so that no old one is used.
    """

    title: str
    description: str = ""
    language: str = "en"
    url: str = ""
    repository: str = ""
    version: str = ""
    folder: str = ""
    versions: str = ""
    policy: str = POLICY
    stamp: str = ""
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()


# %% PageFacts
@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the frame of one page says about it.

    `links` are where else it can be opened, by their labels.
    """

    name: str
    title: str
    summary: str = ""
    url: str = ""
    twin: str = ""
    links: tuple[tuple[str, str], ...] = ()


# %% fill
def fill(theme: Theme, template: str, html: str = "", **known: Any) -> str:
    """Return a page: a template with what is known filled in.

    `html` is put in as it is. Raises `ThemeError` at the line of a template.
    """
    from jinja2 import TemplateError
    from markupsafe import Markup

    try:
        templates = open_templates(theme.folder, theme.key)
        return templates.get_template(template).render(html=Markup(html), **known)
    except TemplateError as error:
        raise explain(error, template) from error


def explain(error: Exception, template: str) -> ThemeError:
    """Return the error for a template, at its line if that is known."""
    name = str(getattr(error, "name", None) or template)
    line = getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace and not hasattr(error, "lineno"):
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.suffix == ".html":
            name, line = file.name, trace.tb_lineno
        trace = trace.tb_next
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return ThemeError(message, at=Location(name, line=line))
