# Exported from nbs/16j_since.ipynb. Edit either side, then run `litml sync`.
"""A page about what changed in the API since the last release, made without anybody
writing it.
"""

from litml.docs_settings import DocsSettings
from litml.git import GitError, run_git
from litml.page import to_json
from litml.project import Project
from litml.sources import Facts, Source, page_entry
from litml.store import Store, make_key

__all__ = ["find_release", "CHANGES", "find_changes", "make_changes"]


# ## The last release
# %% find_release
def find_release(project: Project, settings: DocsSettings, version: str) -> str:
    """Return the tag of the release before; empty if there is none.

    `version` is the release that is documented, if it is one.
    """
    pattern = settings.tag.replace("{version}", "*")
    own = settings.tag.replace("{version}", version) if version else ""
    words = ("describe", "--tags", "--abbrev=0", "--match", pattern)
    more = ("--exclude", own) if own else ()
    try:
        return run_git(project.root, *words, *more).decode().strip()
    except GitError:
        return ""


# ## The page
# %% find_changes
CHANGES = "api-changes"


def find_changes(
    project: Project, settings: DocsSettings, store: Store, version: str = ""
) -> tuple[Source, Facts] | None:
    """Return the page of changes, which is kept in the store; None if there is none."""
    tag = find_release(project, settings, version) if settings.changes else ""
    package = project.package_dir
    if not tag or not package.is_dir():
        return None
    commit = run_git(project.root, "rev-parse", f"{tag}^{{commit}}")
    files = sorted(package.rglob("*.py"))
    texts = (part for file in files for part in (str(file), file.read_bytes()))
    key = make_key(tag, commit, *texts)
    source = Source(CHANGES, CHANGES, "", "", key)
    kept = store.read(page_entry(source), key)
    title, summary = (kept["title"], kept["summary"]) if kept else ("", "")
    if not title:
        made = make_changes(project, store, source, tag)
        if made is None:
            return None
        title, summary = made
    return source, Facts(key, CHANGES, "", title, summary)


def make_changes(
    project: Project, store: Store, source: Source, tag: str
) -> tuple[str, str] | None:
    """Compare with a tag and keep the page; return its title and summary."""
    from litml.api_changes import (
        ApiChangesError,
        compare_revision,
        make_changes_page,
    )

    try:
        changes = compare_revision(project.root, project.config.package, tag)
    except ApiChangesError:
        return None  # the package was not there then
    page = make_changes_page(changes, tag)
    store.write(page_entry(source), source.key, to_json(page))
    return page.title, page.summary
