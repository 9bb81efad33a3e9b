# Exported from nbs/16_docs_settings.ipynb. Edit either side, then run `litml sync`.
"""What a project says about its documentation: the table `[tool.litml.docs]`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litml.notebook import Location
from litml.project import (
    ConfigError,
    Kind,
    Project,
    check_table,
    leads_out,
    read_toml,
    subtable,
)

__all__ = [
    "DocsSettings",
    "BUTTONS",
    "KINDS",
    "read_docs_settings",
    "NAME",
    "PATTERNS",
    "TEXT",
    "check_values",
    "find_defaults",
    "SOURCE_NAMES",
    "HOSTS",
    "find_remote",
    "web_address",
    "source_url",
    "revision",
    "launch_urls",
]


# ## The table
# %% DocsSettings
@dataclass(frozen=True, slots=True)
class DocsSettings:
    """The table `[tool.litml.docs]`; addresses have no slash at their ends."""

    title: str = ""
    description: str = ""
    url: str = ""
    repository: str = ""
    branch: str = "main"
    tag: str = "v{version}"
    out: str = "_site"
    language: str = "en"
    buttons: tuple[str, ...] = ("colab", "binder")
    trusted: bool = False
    exclude: tuple[str, ...] = ()
    changes: bool = True
    sections: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    redirects: Mapping[str, str] = field(default_factory=dict)
    inventories: Mapping[str, str] = field(default_factory=dict)
    theme: str = ""


# ## Reading it
# %% read_docs_settings
BUTTONS = ("colab", "binder")
KINDS: dict[str, Kind] = {
    **dict.fromkeys(["title", "description", "language"], (str, "a string")),
    **dict.fromkeys(["url", "repository"], (str, "an address, as `https://…`")),
    **dict.fromkeys(["branch", "tag"], (str, "a name in the repository")),
    **dict.fromkeys(["out", "theme"], (str, "the name of a folder")),
    "buttons": (list, f"a list of {' and '.join(BUTTONS)}"),
    **dict.fromkeys(["trusted", "changes"], (bool, "true or false")),
    "exclude": (list, "a list of patterns"),
    "sections": (dict, "a table of titles and lists of patterns"),
    "redirects": (dict, "a table of old addresses and pages"),
    "inventories": (dict, "a table of packages and addresses"),
}


def read_docs_settings(project: Project) -> DocsSettings:
    """Return the project's table. Raises `ConfigError` at the first wrong key."""
    table = dict(project.config.tables.get("docs", {}))
    check_table(table, KINDS, NAME)
    check_values(table)
    sections = table.get("sections", {})
    check_table(sections, dict.fromkeys(sections, PATTERNS), f"{NAME}.sections")
    for key in ("redirects", "inventories"):
        inner = table.get(key, {})
        check_table(inner, dict.fromkeys(inner, TEXT), f"{NAME}.{key}")
    values = {**find_defaults(project), **table}
    values["sections"] = {title: tuple(some) for title, some in sections.items()}
    for key in ("url", "repository"):
        values[key] = values.get(key, "").rstrip("/")
    lists = {key: tuple(one) for key, one in values.items() if isinstance(one, list)}
    return DocsSettings(**{**values, **lists})


NAME = "tool.litml.docs"
PATTERNS: Kind = (list, "a list of patterns")
TEXT: Kind = (str, "a string")


# %% check_values
def check_values(table: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for an address, a folder or a button that cannot be."""
    at = Location("pyproject.toml")
    for key in ("url", "repository"):
        if table.get(key) and not re.match(r"https?://[^\s/]+", table[key]):
            message = f"`{key}` in [{NAME}] is no address: {table[key]!r}"
            raise ConfigError(message, at=at, hint="write it in full: `https://…`")
    for key in ("out", "theme"):
        if key in table and (leads_out(table[key]) or table[key] in ("", ".")):
            message = f"`{key}` in [{NAME}] is no folder in the project: {table[key]!r}"
            raise ConfigError(message, at=at)
    if unknown := sorted({*table.get("buttons", ())} - {*BUTTONS}):
        message = f"unknown button `{unknown[0]}` in [{NAME}]"
        raise ConfigError(message, at=at, hint=f"there are {' and '.join(BUTTONS)}")


# %% find_defaults
def find_defaults(project: Project) -> dict[str, str]:
    """Return what can be said of the site from `[project]`, and from git."""
    about = subtable(read_toml(project.root / "pyproject.toml"), "project")
    urls = subtable(about, "urls")
    known = {name.lower(): str(url) for name, url in urls.items() if "://" in str(url)}
    if not HOSTS.match(known.get("homepage", "")):
        known.pop("homepage", None)
    named = [known[name] for name in SOURCE_NAMES if name in known]
    return {
        "title": str(about.get("name", project.root.name)),
        "description": str(about.get("description", "")),
        "url": known.get("documentation", ""),
        "repository": named[0] if named else find_remote(project.root),
    }


SOURCE_NAMES = ("repository", "source", "source code", "github", "homepage")
HOSTS = re.compile(r"https?://(?:www\.)?(?:github|gitlab|codeberg|bitbucket)\.\w+/.")


# %% find_remote
def find_remote(root: Path) -> str:
    """Return the address of a project's remote `origin`; empty if it has none."""
    from litml.git import GitError, run_git

    if not (root / ".git").exists():  # then paths in the repository are others
        return ""
    try:
        told = run_git(root, "config", "--get", "remote.origin.url").decode()
    except (GitError, OSError):
        return ""
    return web_address(told.strip())


def web_address(remote: str) -> str:
    """Return where a browser finds a remote; empty if that cannot be known."""
    there = re.fullmatch(
        r"(?:https?|ssh)://(?:[^@/]*@)?([\w.-]+)(?::\d+)?/(.+)", remote
    )
    there = there or re.fullmatch(r"[\w.-]+@([\w.-]+):(?!/)(.+)", remote)
    return f"https://{there[1]}/{there[2].removesuffix('.git')}" if there else ""


# ## Where the source is
# %% source_url
def source_url(settings: DocsSettings, path: str, version: str = "") -> str:
    """Return the address of a file in the repository; empty if that is unknown.

    `version` is one that is released; without it, the link is to the branch.
    """
    if not settings.repository:
        return ""
    middle = "-/blob" if "gitlab" in settings.repository else "blob"
    return f"{settings.repository}/{middle}/{revision(settings, version)}/{path}"


def revision(settings: DocsSettings, version: str = "") -> str:
    """Return what of the repository is shown: a tag or the branch."""
    return settings.tag.replace("{version}", version) if version else settings.branch


# %% launch_urls
def launch_urls(
    settings: DocsSettings, notebook: str, version: str = ""
) -> dict[str, str]:
    """Return where the buttons of a notebook's page lead, by their labels."""
    found = re.fullmatch(r"https?://github\.com/([^/]+/[^/]+)", settings.repository)
    if not found or not notebook.endswith(".ipynb"):
        return {}
    what = revision(settings, version)
    colab = "https://colab.research.google.com/github"
    binder = f"https://mybinder.org/v2/gh/{found[1]}/{what}"
    urls = {
        "colab": ("Open in Colab", f"{colab}/{found[1]}/blob/{what}/{notebook}"),
        "binder": ("Open in Binder", f"{binder}?urlpath=lab/tree/{notebook}"),
    }
    return dict(urls[name] for name in settings.buttons)
