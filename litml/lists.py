# Exported from nbs/16j_lists.ipynb. Edit either side, then run `litml sync`.
"""The files of a site that are for machines: site map, redirects, and what nobody
reads but everybody needs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from posixpath import dirname, relpath
from urllib.parse import quote, urlsplit

from litml.notebook import Location
from litml.project import ConfigError
from litml.store import Target, is_inner
from litml.theme import Site, Theme, fill

__all__ = [
    "make_sitemap",
    "find_redirects",
    "read_aliases",
    "file_of",
    "from_file",
    "write_redirects",
    "site_root",
    "fill_frames",
]


# ## The site map
# %% make_sitemap
def make_sitemap(url: str, names: Iterable[str]) -> bytes:
    """Return the site map of pages, by their names, of a site at `url`."""
    rows = "".join(
        f"<url><loc>{escape(f'{url}/{quote(name)}.html')}</loc></url>\n"
        for name in names
        if name != "index"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        f"<url><loc>{escape(url)}/</loc></url>\n{rows}</urlset>\n"
    ).encode()


# ## Pages that moved
# %% find_redirects
def find_redirects(
    settings: Mapping[str, str], aliases: Mapping[str, object], pages: set[str]
) -> dict[str, str]:
    """Return the files of redirects, with the page that each leads to.

    `aliases` are those in the front matter of pages, by name. Raises `ConfigError` for
    an old address that is a page, or one that leads to none.
    """
    asked = {
        old: new
        for page, some in aliases.items()
        for old in read_aliases(some, page)
        for new in (page,)
    }
    found = {}
    for old, new in {**asked, **settings}.items():
        target, mark, anchor = new.lstrip("/").partition("#")
        target = target.removesuffix(".html")
        file = file_of(old)
        at = Location("pyproject.toml")
        if not is_inner(file) or file.removesuffix(".html") in pages:
            raise ConfigError(f"a redirect from a page that exists: `{old}`", at=at)
        if target not in pages:
            raise ConfigError(f"a redirect to no page: `{old}` → `{new}`", at=at)
        found[file] = f"{target}.html{mark}{anchor}"
    return found


def read_aliases(said: object, page: str) -> Iterator[str]:
    """Yield old addresses as front matter has them: beside the page, or from `/`."""
    texts = said if isinstance(said, list) else str(said).strip("[] ").split(",")
    for text in filter(None, (str(one).strip(" \"'") for one in texts)):
        folder = dirname(page)
        yield text if text.startswith("/") or not folder else f"{folder}/{text}"


def file_of(address: str) -> str:
    """Return the file that a server sends for an address on the site."""
    path = address.strip("/")
    return path if re.search(r"\.html?$", path) else f"{path}/index.html".lstrip("/")


# %% from_file
def from_file(file: str, target: str) -> str:
    """Return an address from the site's root as one from the place of a file."""
    path, mark, anchor = target.partition("#")
    return f"{relpath(path, dirname(file) or '.')}{mark}{anchor}"


def write_redirects(
    redirects: Mapping[str, str], theme: Theme, site: Site
) -> Iterator[tuple[str, bytes]]:
    """Yield a page for each old address."""
    for file, target in redirects.items():
        to = from_file(file, target)
        text = fill(theme, "redirect.html", site=site, target=to)
        yield file, text.encode()


def site_root(url: str) -> str:
    """Return the path of a site on its server, with a slash at both ends."""
    path = urlsplit(url).path.strip("/")
    return f"/{path}/" if path else "/"


# ## Frames from a disk
# %% fill_frames
def fill_frames(target: Target) -> None:
    """Put the scripts of a site's frames into them."""
    from litml.outputs import inline_scripts

    names = [name for name in target.made if name.startswith("_out/")]
    files = {name: (target.folder / name).read_bytes() for name in names}
    for name, data in files.items():
        target.write(name, inline_scripts(data, files))
