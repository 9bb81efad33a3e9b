# Exported from nbs/06e_settings.ipynb. Edit either side, then run `litml sync`.
"""Put what nbdev was configured with into `pyproject.toml`, as litml and packaging
tools read it.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Array, Table

import litml
from litml.project import Project, find_package, read_ini, read_toml

__all__ = ["read_settings", "flags_of", "Facts", "merge_settings"]


# ## Reading
# %% read_settings
def read_settings(project: Project) -> dict[str, Any]:
    """Return an nbdev project's settings: a table's values, or an ini file's words."""
    if project.nbdev and project.nbdev.major > 2:
        return dict(read_toml(project.root / "pyproject.toml")["tool"]["nbdev"])
    return read_ini(project.root / "settings.ini")


# %% flags_of
def flags_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words that mark cells not to be tested unless asked for."""
    flags = settings.get("tst_flags", "notest")
    words = flags if isinstance(flags, list) else re.split(r"[\s|]+", str(flags))
    return tuple(word for word in words if word)


# ## What litml needs to know
# %% Facts
@dataclass(frozen=True, slots=True)
class Facts:
    """What to know of a project besides its settings.

    `used` are the directives in its notebooks, and `readme` is a README to be made from
    the index. `has_texts`: among the notebooks lie text files that litml would read as
    notebooks. `own_setup`: it is built by other means than nbdev's. `imports_nbdev`:
    notebooks need nbdev. `keeps_index`: something reads nbdev's index of names.
    """

    used: frozenset[str] = frozenset()
    readme: str = ""
    has_texts: bool = False
    own_setup: bool = False
    imports_nbdev: bool = False
    keeps_index: bool = False


# %% litml_values
def litml_values(
    project: Project, settings: Mapping[str, Any], facts: Facts
) -> dict[str, Any]:
    """Return the values of [tool.litml] that differ from the defaults."""
    values: dict[str, Any] = {}
    notebooks = Path(project.config.notebooks).as_posix()
    if notebooks != "nbs":
        values["notebooks"] = notebooks
    values["package"] = Path(project.config.package).as_posix()
    inner = ["*/*"] if project.nbdev and not project.nbdev.recursive else []
    if exclude := [*inner, *(["*.py", "*.md"] if facts.has_texts else [])]:
        values["exclude"] = exclude
    if facts.readme:
        values["readme"] = facts.readme
    if float(settings.get("cell_timeout", 600)) != 600:
        values["timeout"] = float(settings["cell_timeout"])
    flags = [*flags_of(settings)]
    if flags not in ([], ["notest"]) or "notest" in facts.used:
        values["test-flags"] = flags
    return values


# %% DEFAULTS
MAPPED = """
nbs_path lib_path recursive tst_flags cell_timeout readme_nb export_procs
repo user host git_url doc_host doc_baseurl lib_name version description keywords author
author_email min_python license status audience language requirements
pip_requirements dev_requirements console_scripts package_data
""".split()
DEFAULTS = {
    "doc_path": "_docs",
    "branch": "main",
    "custom_sidebar": "false",
    "clean_ids": "true",
    "clear_all": "false",
    "jupyter_hooks": "false",
    "put_version_in_init": "true",
    "update_pyproject": "true",
    "black_formatting": "false",
    "cell_number": "true",
    "exec_profile": "true",
}
LICENSES = {
    "apache2": "Apache-2.0",
    "mit": "MIT",
    "gpl2": "GPL-2.0-only",
    "gpl3": "GPL-3.0-only",
    "bsd3": "BSD-3-Clause",
}


# ## What packaging tools need to know
# %% split_words
def split_words(text: str) -> list[str]:
    """Split words at white space as a shell does, or plainly if its quotes are odd."""
    text = text.replace("\\\n", " ")
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


# %% is_requirement
GIT = re.compile(r"^(git\+[^#]+)#egg=([\w.-]+)$")


def is_requirement(word: str) -> bool:
    """Is a word a requirement by the standard, once places in git are rewritten?"""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(GIT.sub(r"\2 @ \1", word))
    except InvalidRequirement:
        return False
    return True


# %% list_requirements
def list_requirements(settings: Mapping[str, str], *keys: str) -> list[str]:
    """Return the requirements in the values of some keys."""
    words = [word for key in keys for word in split_words(settings.get(key, ""))]
    return [GIT.sub(r"\2 @ \1", word) for word in words if is_requirement(word)]


# %% list_unmapped
def list_unmapped(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that nothing takes over, as `key = value`."""
    for key, value in settings.items():
        empty = value in ("", [], None)
        usual = DEFAULTS.get(key) == str(value).lower()
        named = key == "title" and value == settings.get("lib_name", value)
        extra = key.endswith("_requirements") and key != "conda_requirements"
        odd = key == "license" and str(value).lower() not in LICENSES
        if not (empty or usual or named or extra) and (odd or key not in MAPPED):
            said = value if isinstance(value, str) else tomlkit.item(value).as_string()
            yield f"{key} = {' '.join(said.split())}"
        elif key.endswith("requirements") and isinstance(value, str):
            yield from (
                f"{key}: {o}" for o in split_words(value) if not is_requirement(o)
            )


# %% list_extras
def list_extras(settings: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the extras: every `<name>_requirements` that is not for conda."""
    for key in settings:
        name = key.removesuffix("_requirements")
        if name not in (key, "pip", "conda") and settings[key]:
            yield name.replace("_", "-"), list_requirements(settings, key)


# %% list_authors
def list_authors(settings: Mapping[str, str]) -> Array:
    """Return the author, as a list of one if there is one."""
    author, authors = tomlkit.inline_table(), tomlkit.array()
    for key, name in [("name", "author"), ("email", "author_email")]:
        if settings.get(name):
            author[key] = settings[name]
    if author:
        authors.append(author)
    return authors


# %% list_classifiers
STATUSES = "Planning,Pre-Alpha,Alpha,Beta,Production/Stable,Mature,Inactive".split(",")


def list_classifiers(settings: Mapping[str, str]) -> Iterator[str]:
    """Yield the classifiers that the settings say."""
    status = settings.get("status", "")
    if status in "1234567" and status:
        yield f"Development Status :: {status} - {STATUSES[int(status) - 1]}"
    if audience := settings.get("audience"):
        yield f"Intended Audience :: {audience.title()}"
    if language := settings.get("language"):
        yield f"Natural Language :: {language.title()}"
    yield "Programming Language :: Python :: 3"


# %% list_urls
def list_urls(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the project's addresses."""
    user, repo = settings.get("user"), settings.get("repo", settings.get("lib_name"))
    code = settings.get("git_url") or (
        f"https://github.com/{user}/{repo}" if user else ""
    )
    if code:
        yield "Repository", code
    if host := settings.get("doc_host"):
        base = settings.get("doc_baseurl", "").strip("/")
        yield "Documentation", f"{host.rstrip('/')}/{base}".rstrip("/") + "/"


# %% project_values
def project_values(
    settings: Mapping[str, str], root: Path
) -> Iterator[tuple[str, Any]]:
    """Yield the fields of [project] that nbdev 2's settings say."""
    yield "name", settings.get("lib_name") or settings.get("repo") or root.name
    yield "description", settings.get("description")
    yield "readme", "README.md" if (root / "README.md").exists() else None
    if version := settings.get("min_python"):
        yield "requires-python", f">={version}"
    yield "license", LICENSES.get(settings.get("license", "").lower())
    yield "authors", list_authors(settings)
    yield "keywords", split_words(settings.get("keywords", ""))
    yield "classifiers", list(list_classifiers(settings))
    yield (
        "dependencies",
        list_requirements(settings, "requirements", "pip_requirements"),
    )
    yield "optional-dependencies", dict(list_extras(settings))
    pairs = [one.split("=", 1) for one in settings.get("console_scripts", "").split()]
    yield "scripts", {name: target for name, target in pairs}
    yield "urls", dict(list_urls(settings))


# %% find_version
def find_version(project: Project) -> str:
    """Return the line of the package's `__init__.py` that says its version, if any."""
    path = project.package_dir / "__init__.py"
    text = path.read_text("utf-8") if path.is_file() else ""
    found = re.search(r"^__version__\s*=.*$", text, re.MULTILINE)
    return found[0] if found else ""


# ## Merging
# %% add_project
def add_project(table: Table, settings: Mapping[str, str], project: Project) -> None:
    """Add what nbdev 2's settings say to the table [project]."""
    for key, value in project_values(settings, project.root):
        if value and key not in table:
            table[key] = value
    if "version" not in table and not find_version(project):
        table["version"] = settings.get("version", "0.0.1")
    table.pop("dynamic", None)
    if "version" not in table:
        table["dynamic"] = ["version"]


# %% describe_package
def describe_package(text: str, settings: Mapping[str, str], project: Project) -> str:
    """Return `pyproject.toml` with [project] filled; tables it lacks are put on top."""
    doc, top = tomlkit.parse(text), tomlkit.document()
    if "build-system" not in doc:
        top["build-system"] = {"requires": [], "build-backend": "setuptools.build_meta"}
    if "project" not in doc:
        top["project"] = tomlkit.table()
    table = top["project"] if "project" in top else doc["project"]
    assert isinstance(table, Table)
    add_project(table, settings, project)
    gap = "\n" if len(top) and text.strip() else ""
    return tomlkit.dumps(top) + gap + tomlkit.dumps(doc)


# %% add_setuptools
def add_setuptools(
    doc: tomlkit.TOMLDocument, settings: Mapping[str, str], project: Project
) -> None:
    """Tell setuptools how to build the package, if it is what builds it."""
    system = doc["build-system"]
    if "setuptools" not in system.get("build-backend", "setuptools"):
        return
    others = [one for one in system.get("requires", []) if "setuptools" not in one]
    system["requires"] = ["setuptools>=77", *others]  # 77 knows `license = "MIT"`
    folder, package = project.package_dir.parent, project.package_dir.name
    find = {"include": [package, f"{package}.*"]}
    if folder != project.root:
        find["where"] = [project.name_of(folder)]
    table: dict[str, Any] = {"packages": {"find": find}}
    if "version" in doc["project"].get("dynamic", []):
        table["dynamic"] = {"version": {"attr": f"{package}.__version__"}}
    if data := settings.get("package_data", "").split():
        table["package-data"] = {package: data}
    tool = doc.setdefault("tool", tomlkit.table(is_super_table=True))
    if "setuptools" not in tool:
        tool["setuptools"] = table


# %% include_all
def include_all(doc: tomlkit.TOMLDocument, project: Project) -> list[str]:
    """Let wheels have the sub-packages that nbdev's template leaves out; say so."""
    package = project.package_dir.name
    find = doc["tool"].get("setuptools", {}).get("packages", {})
    find = find.get("find", {}) if isinstance(find, dict) else {}
    inner = [path for path in project.package_dir.rglob("*/__init__.py")]
    if not inner or list(find.get("include", [])) != [package]:
        return []
    find["include"] = [package, f"{package}.*"]
    return [f"wheels lacked the packages inside `{package}`; they are included now"]


# %% own_requirement
def own_requirement(version: str) -> str:
    """Return the requirement on this litml, and what is compatible with it."""
    major, minor = version.split(".")[:2]
    limit = f"0.{int(minor) + 1}" if major == "0" else f"{int(major) + 1}"
    return f"litml>={version},<{limit}"


# %% swap_requirement
def swap_requirement(doc: tomlkit.TOMLDocument, keep: bool) -> None:
    """Require litml where nbdev was required; with `keep`, both."""
    table = doc.get("project", {})
    groups = [table.get("optional-dependencies", {}), doc.get("dependency-groups", {})]
    lists = [one for group in groups for one in group.values()]
    own = own_requirement(litml.__version__)
    found = False
    for words in lists:
        for i, word in enumerate(words):
            if isinstance(word, str) and re.match(r"nbdev(?![\w-])", word):
                words.append(own) if keep else words.__setitem__(i, own)
                found = True
                break
    if not found and "name" in table:
        extras = table.setdefault("optional-dependencies", tomlkit.table())
        extras["dev"] = [*extras.get("dev", []), own]


# %% drop_entry_point
def drop_entry_point(doc: tomlkit.TOMLDocument) -> None:
    """Remove the entry point by which nbdev finds the index of names."""
    points = doc.get("project", {}).get("entry-points", {})
    points.pop("nbdev", None)
    if "entry-points" in doc.get("project", {}) and not points:
        del doc["project"]["entry-points"]


# %% replace_table
def replace_table(
    doc: tomlkit.TOMLDocument, values: Mapping[str, Any], lost: list[str]
) -> None:
    """Put [tool.litml] where [tool.nbdev] stood, or at the end."""
    table = tomlkit.table()
    for key, value in values.items():
        table[key] = value
    for setting in lost:
        table.add(tomlkit.comment(f"nbdev: {setting}"))
    tool = doc.setdefault("tool", tomlkit.table(is_super_table=True))
    tool.pop("nbdev", None)
    tool["litml"] = table


# %% is_found
def is_found(project: Project, doc: tomlkit.TOMLDocument) -> bool:
    """Would litml find the package without being told?"""
    data = doc.unwrap()
    named = isinstance(data.get("project", {}).get("name"), str)
    return named and find_package(project.root, data) == project.config.package


# %% space_out
def space_out(text: str) -> str:
    """Put a blank line above each table that has none, nor a comment, above it."""
    return re.sub(r"(?m)^([^#\n].*)\n(?=\[+[\w.\"'-]+\]+ *$)", r"\1\n\n", text)


# %% merge_settings
def merge_settings(
    text: str, project: Project, facts: Facts = Facts()
) -> tuple[str, list[str]]:
    """Return the text of `pyproject.toml` with nbdev's settings in it, and notes."""
    settings, packaged = read_settings(project), not facts.own_setup
    is_old = project.nbdev is not None and project.nbdev.major == 2
    if is_old and packaged:
        text = describe_package(text, settings, project)
    doc = tomlkit.parse(text)
    if is_old and packaged:
        add_setuptools(doc, settings, project)
    values = litml_values(project, settings, facts)
    if is_found(project, doc):
        del values["package"]
    lost = list(list_unmapped(settings)) if packaged else []
    replace_table(doc, values, lost)
    notes = [f"`{one}` has no counterpart; it is a comment now" for one in lost]
    notes += include_all(doc, project)
    if not facts.keeps_index:
        drop_entry_point(doc)
    if packaged:
        swap_requirement(doc, facts.imports_nbdev)
    merged = tomlkit.dumps(doc)
    return (space_out(merged) if is_old else merged), notes
