# Exported from nbs/03_project.ipynb. Edit either side, then run `litml sync`.
"""Find the project around a folder: its root, its configuration, and which notebook
is which module.
"""

import keyword
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from litml.notebook import LitmlError, Location, suggest
from litml.text import is_notebook, refuse_pairs

__all__ = [
    "ConfigError",
    "Config",
    "Kind",
    "check_table",
    "Nbdev",
    "Project",
    "find_project",
    "list_notebooks",
    "NUMBER",
    "default_module",
    "module_path",
]


# %% ConfigError
class ConfigError(LitmlError):
    """A project that cannot be found, or configuration that makes no sense."""


# ## Configuration
# %% Config
@dataclass(frozen=True, slots=True)
class Config:
    """The table `[tool.litml]`; `timeout` is in seconds, folders are relative.

    `tables` holds the tables below it, by their names, for whoever can read them.
    """

    notebooks: str = "nbs"
    package: str = ""
    exclude: tuple[str, ...] = ()
    readme: str = ""
    timeout: float = 600.0
    test_flags: tuple[str, ...] = ()
    check_examples: bool = True
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


# %% check-table
Kind = tuple[type | tuple[type, ...], str]  # the types, and how a message calls them


def check_table(
    table: Mapping[str, Any],
    kinds: Mapping[str, Kind],
    name: str,
    file: str = "pyproject.toml",
) -> None:
    """Raise `ConfigError` at the first key that is unknown or of a wrong kind."""
    at = Location(file)
    for key, value in table.items():
        if key not in kinds:
            hint = suggest(key, kinds)
            raise ConfigError(f"unknown key `{key}` in [{name}]", at=at, hint=hint)
        kind, description = kinds[key]
        items = value if isinstance(value, list) else []
        fits = isinstance(value, kind) and all(isinstance(item, str) for item in items)
        if not fits or (isinstance(value, bool) and kind is not bool):
            message = f"`{key}` in [{name}] is {description}, not {value!r}"
            raise ConfigError(message, at=at)


# %% parse_config
TABLES = ("clean", "run", "kernel", "test", "docs", "release")
KINDS: dict[str, Kind] = {
    "notebooks": (str, "a string"),
    "package": (str, "a string"),
    "exclude": (list, "a list of strings"),
    "readme": (str, "a string"),
    "timeout": ((int, float), "a number of seconds"),
    "test-flags": (list, "a list of strings"),
    "check-examples": (bool, "true or false"),
    **{name: (dict, "a table") for name in TABLES},
}


def parse_config(table: dict[str, Any], file: str = "pyproject.toml") -> Config:
    """Turn the table into a `Config`; raises `ConfigError` at the first wrong key."""
    check_table(table, KINDS, "tool.litml", file)
    tables = {name: table[name] for name in TABLES if name in table}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in tables:
            continue
        if key in ("notebooks", "package", "readme") and leads_out(value):
            message = f"`{key}` in [tool.litml] leads out of the project: {value!r}"
            raise ConfigError(message, at=Location(file))
        value = tuple(value) if isinstance(value, list) else value
        values[key.replace("-", "_")] = value
    return Config(**values, tables=tables)


def leads_out(path: str) -> bool:
    """Is it the path of something that is not below the project's root?"""
    return os.path.isabs(path) or ".." in re.split(r"[\\/]", path)


# ## The project
# %% Nbdev
@dataclass(frozen=True, slots=True)
class Nbdev:
    """What litml needs to know of a project that is configured for nbdev.

    `major` is 2 (`settings.ini`) or 3 (`[tool.nbdev]`); `docs` is where its pages are.
    """

    major: int
    docs: str = ""
    recursive: bool = True
    scrub_magics: bool = False
    black: bool = False


# %% Project
@dataclass(frozen=True, slots=True)
class Project:
    """A project: its root folder and its configuration."""

    root: Path
    config: Config
    nbdev: Nbdev | None = None

    @property
    def notebooks_dir(self) -> Path:
        """The folder of the notebooks."""
        return self.root / self.config.notebooks

    @property
    def package_dir(self) -> Path:
        """The folder of the package."""
        return self.root / self.config.package

    def name_of(self, path: Path) -> str:
        """Return how messages call a file: its path from the root, with slashes."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()


# %% find_project
def find_project(start: Path | None = None) -> Project:
    """Find the project around `start`, which is the current folder by default.

    Raises `ConfigError` if there is none, or if its configuration is wrong.
    """
    here = Path(start or Path.cwd()).resolve()
    for folder in [here, *here.parents]:
        if project := open_project(folder):
            return project
    raise ConfigError(
        f"no project at `{here.name}` or above it: there is no `pyproject.toml` with"
        " a table [tool.litml]",
        hint="begin one with `litml new NAME`, or add the table; it may be empty",
    )


# %% open_project
def open_project(root: Path) -> Project | None:
    """Return the project whose root is `root`, or None if it is not a root."""
    data = read_toml(root / "pyproject.toml")
    tool = subtable(data, "tool")
    if "litml" in tool:
        config = parse_config(subtable(tool, "litml"))
        package = config.package or find_package(root, data)
        return Project(root, replace(config, package=package))
    if "nbdev" in tool:
        return from_pyproject(root, data)
    ini = root / "settings.ini"
    return from_settings(root, ini) if ini.is_file() else None


def subtable(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the table called `name`, empty if there is none."""
    table = data.get(name, {})
    if not isinstance(table, dict):
        at = Location("pyproject.toml")
        raise ConfigError(f"`{name}` is not a table, but {table!r}", at=at)
    return table


# %% read_toml
def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a missing one is empty."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", at=Location(path.name)) from error
    except OSError as error:
        raise ConfigError(str(error.strerror), at=Location(path.name)) from error


# %% find_package
def find_package(root: Path, data: dict[str, Any]) -> str:
    """Return the package's folder, relative to `root`, from the project's name."""
    name = subtable(data, "project").get("name")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        hint = 'name it: `package = "mylib"` in [tool.litml]'
        at = Location("pyproject.toml")
        raise ConfigError("cannot tell which folder is the package", at=at, hint=hint)
    folder = re.sub(r"[-.\s]+", "_", name)
    in_src = (root / "src").is_dir() and not (root / folder).is_dir()
    return f"src/{folder}" if in_src else folder


# ## Its notebooks
# %% list_notebooks
def list_notebooks(project: Project) -> list[Path]:
    """Return the project's notebooks in reading order."""
    recursive = project.nbdev is None or project.nbdev.recursive
    text = project.nbdev is None
    found = sorted(scan(project.notebooks_dir, recursive, text))
    if project.nbdev:  # nbdev goes by the name of the file alone
        found.sort(key=lambda parts: parts[-1])
    paths = [project.notebooks_dir.joinpath(*parts) for parts in found]
    if project.config.exclude:
        paths = [path for path in paths if not is_excluded(project, path)]
    if any(path.suffix != ".ipynb" for path in paths):
        package = project.package_dir
        paths = [path for path in paths if package not in path.parents]
        refuse_pairs(paths, project.root)
    return paths


# %% scan
def scan(
    folder: Path, recursive: bool = True, text: bool = False
) -> Iterator[tuple[str, ...]]:
    """Yield the parts of every notebook's path below `folder`.

    With `text`, notebooks may be Python and Markdown files as well.
    """
    todo: list[tuple[str, ...]] = [()]
    while todo:
        parts = todo.pop()
        try:
            entries = list(os.scandir(os.path.join(folder, *parts)))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.name.startswith(("_", ".")):
                continue
            texts = TEXTS if text else ()
            if entry.name.endswith((".ipynb", *texts)):
                if is_notebook(Path(entry.path)):
                    yield (*parts, entry.name)
            elif recursive and entry.is_dir(follow_symlinks=False):
                todo.append((*parts, entry.name))


TEXTS = (".py", ".md")


# %% is_excluded
def list_folders(project: Project) -> list[Path]:
    """Return the folders that notebooks of the project can be in."""
    recursive = project.nbdev is None or project.nbdev.recursive
    found = [project.notebooks_dir]
    for folder, inner, _ in os.walk(project.notebooks_dir) if recursive else ():
        inner[:] = [name for name in inner if not name.startswith(("_", "."))]
        found += [Path(folder, name) for name in inner]
    return found


def is_excluded(project: Project, path: Path) -> bool:
    """Does a pattern of `exclude` match the path below the notebooks' folder?"""
    name = path.relative_to(project.notebooks_dir).as_posix()
    return any(fnmatch(name, pattern) for pattern in project.config.exclude)


# ## Which notebook is which module
# %% default_module
NUMBER = re.compile(r"^(?:\d+[a-zA-Z]?[_-])+")


def default_module(project: Project, notebook: Path) -> str:
    """Return the dotted name of the module of a notebook that does not name one."""
    parts = notebook.relative_to(project.notebooks_dir).with_suffix("").parts
    names = [NUMBER.sub("", part).replace("-", "_") for part in parts]
    return ".".join([*names[:-1], "__init__" if names[-1] == "index" else names[-1]])


# %% module_path
def module_path(project: Project, module: str, at: Location) -> str:
    """Return the file of a module as a path from the package, such as `a/b.py`.

    Raises `ConfigError` for a name that is not a module inside the package.
    """
    parts = (module.replace("/", ".") if project.nbdev else module).split(".")
    dashes = "-" if project.nbdev else ""
    for part in parts:
        plain = part.replace("-", "_") if dashes else part
        if not plain.isidentifier() or keyword.iskeyword(plain):
            hint = "use names and dots, as in `models.linear`"
            message = f"`{module}` is not a module inside the package"
            raise ConfigError(message, at=at, hint=hint)
    return "/".join(parts) + ".py"


# ## A project made for nbdev
# %% from_pyproject
def from_pyproject(root: Path, data: dict[str, Any]) -> Project:
    """Read the settings of an nbdev 3 project."""
    table, about = subtable(data["tool"], "nbdev"), subtable(data, "project")
    name = str(about.get("name", root.name)).replace("-", "_")
    processors = table.get("export_procs", [])
    unknown = sorted(set(processors) - {SCRUB_MAGICS})
    if unknown:
        hint = "litml knows nbdev.scrubmagics:scrub_magics only"
        message = f"export processor `{unknown[0]}` cannot be run"
        raise ConfigError(message, at=Location("pyproject.toml"), hint=hint)
    address = str(about.get("urls", {}).get("Documentation", ""))
    docs = re.match(r"\w+://[^/?#]+[^?#]*", address)
    return Project(
        root,
        Config(table.get("nbs_path", "nbs"), table.get("lib_path", name)),
        Nbdev(
            major=3,
            docs=docs[0].rstrip("/") if docs else "",
            recursive=bool(table.get("recursive", True)),
            scrub_magics=SCRUB_MAGICS in processors,
        ),
    )


SCRUB_MAGICS = "nbdev.scrubmagics:scrub_magics"


# %% from_settings
def from_settings(root: Path, ini: Path) -> Project | None:
    """Read the `settings.ini` of an nbdev 2 project; None if it is not nbdev's."""
    table = read_ini(ini)
    if not {"lib_name", "lib_path", "nbs_path"} & set(table):
        return None
    package = table.get("lib_path") or table.get("repo", root.name).replace("-", "_")
    recursive = table.get("recursive", "true").lower() in TRUE_WORDS
    black = table.get("black_formatting", "false").lower() in TRUE_WORDS
    config = Config(table.get("nbs_path") or "nbs", package)
    return Project(root, config, Nbdev(major=2, recursive=recursive, black=black))


def read_ini(path: Path) -> dict[str, str]:
    """Return the values of an ini file's section `DEFAULT`."""
    import configparser

    parser = configparser.ConfigParser(delimiters=["="])
    try:
        parser.read_string(path.read_text("utf-8"))
        return {key: value.strip() for key, value in parser["DEFAULT"].items()}
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"not readable: {error}", at=Location(path.name)) from error


TRUE_WORDS = ("y", "yes", "t", "true", "on", "1")
