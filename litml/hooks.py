# Exported from nbs/09d_hooks.ipynb. Edit either side, then run `litml sync`.
"""Install into a clone what git needs to know of litml, next to whatever is there,
and take it away again.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import litml
from litml.files import failed, replace_file
from litml.git import GitError, Repository, find_repository, run_git
from litml.project import ConfigError, Project, find_project
from litml.starter import STARTER, render_starter, starter_line, starter_path

__all__ = [
    "SETTINGS",
    "TEXTCONV",
    "read_settings",
    "has_filter",
    "HookFile",
    "find_hooks",
    "read_hook",
    "read_text",
    "OURS",
    "Plan",
    "plan_install",
    "find_place",
    "note_hooks",
    "plan_remove",
    "carry_out",
    "write_file",
]


# ## A block in a file
# %% put_block
BEGIN, END = "# >>> litml >>>", "# <<< litml <<<"
MADE, ENDED = " (made this file)", " (ended the line above)"
BLOCK = r"(?ms)^# >>> litml >>>(?P<said>[^\n]*)\n.*?^# <<< litml <<<\n?"


def put_block(text: str | None, block: str, shebang: str = "") -> str:
    """Return a file's text with our block, at its end, or at the top of a script.

    Without a text, it is a new file, which begins with `shebang`.
    """
    if text is None:
        return f"{shebang}{BEGIN}{MADE}\n{block}{END}\n"
    if has_crlf(text):
        return put_block(text.replace("\r\n", "\n"), block, shebang).replace(
            "\n", "\r\n"
        )
    if found := re.search(BLOCK, text):
        new = f"{BEGIN}{found['said']}\n{block}{END}\n"
        return text[: found.start()] + new + text[found.end() :]
    first = text.find("\n") + 1 if text.startswith("#!") else 0
    if shebang:
        return f"{text[:first]}{BEGIN}\n{block}{END}\n{text[first:]}"
    if text and not text.endswith("\n"):
        return f"{text}\n{BEGIN}{ENDED}\n{block}{END}\n"
    return f"{text}{BEGIN}\n{block}{END}\n"


def take_block(text: str) -> str | None:
    """Return a file's text without our block; nothing if the file was made for it."""
    if has_crlf(text):
        left = take_block(text.replace("\r\n", "\n"))
        return left and left.replace("\n", "\r\n")
    found = re.search(BLOCK, text)
    if not found:
        return text
    before, after = text[: found.start()], text[found.end() :]
    if found["said"] == ENDED:
        before = before.removesuffix("\n")
    made = found["said"] == MADE and before + after in ("", SHEBANG)
    return None if made else before + after


def has_crlf(text: str) -> bool:
    """Do all lines end as on Windows, where git may write a checked-out file so?"""
    return text.count("\r\n") == text.count("\n") > 0


SHEBANG = "#!/bin/sh\n"


# ## What git is to know
# %% SETTINGS
SETTINGS = {
    "filter.litml.process": starter_line("filter"),
    "filter.litml.required": "true",
    "diff.litml.xfuncname": '^ *"id": "([^"]*)"',
    "merge.litml.name": "notebooks, cell by cell",
    "merge.litml.driver": starter_line("merge %O %A %B %L %P"),
    "merge.litml-module.name": "modules that notebooks export",
    "merge.litml-module.driver": starter_line("module %O %A %B %L %P"),
    "mergetool.litml.cmd": starter_line('resolve "$MERGED"'),
    "mergetool.litml.trustexitcode": "true",
}
TEXTCONV = {"diff.litml.textconv": starter_line("textconv")}


def read_settings(folder: Path, pattern: str, scope: str = "--local") -> dict[str, str]:
    """Return git's settings whose name matches a pattern."""
    words = [word for word in ("config", scope, "-z", "--get-regexp", pattern) if word]
    try:
        told = os.fsdecode(run_git(folder, *words))
    except GitError:
        return {}
    pairs = (one.partition("\n") for one in told.split("\0") if one)
    return {name: value for name, _, value in pairs}


def has_filter(folder: Path) -> bool:
    """Does git in this clone know the filter of litml?"""
    return bool(read_settings(folder, r"^filter\.litml\.process$", scope=""))


# %% attribute_lines
def attribute_lines(project: Project | None, base: str = "") -> str:
    """Return the lines for an attributes file `base` above the project."""
    below = f"/{base}/" if base else "/"
    lines = [f"{below}**/*.ipynb" if base else "*.ipynb"]
    lines[0] += " -text filter=litml diff=litml merge=litml"
    if project and not project.nbdev:
        module = " text eol=lf merge=litml-module"
        if project.config.package:
            lines.append(quote(f"{below}{project.config.package}/**/*.py") + module)
        if project.config.readme:
            lines.append(quote(below + project.config.readme) + module)
    return "".join(f"{line}\n" for line in lines)


def quote(pattern: str) -> str:
    """Return a pattern as an attributes file wants it."""
    return f'"{pattern}"' if " " in pattern else pattern


# %% hook_line
HOOKS = ("pre-commit", "pre-merge-commit", "post-commit", "post-merge", "post-rewrite")


def hook_line(name: str) -> str:
    """Return the line that a hook needs."""
    line = starter_line(f'hook {name} "$@"') + " </dev/null"
    return f"{line} || exit $?\n" if name.startswith("pre-") else f"{line}\n"


# ## What is not touched
# %% HookFile
@dataclass(frozen=True, slots=True)
class HookFile:
    """A hook: its path, its text if it is there, and why it is left alone if it is."""

    path: Path
    text: str | None = None
    left: str = ""

    @property
    def has_line(self) -> bool:
        """Does it start litml, by our block or by a line of somebody's?"""
        return "litml-git.sh" in (self.text or "")


def find_hooks(repository: Repository) -> list[HookFile]:
    """Return the hooks that litml needs."""
    told = run_git(repository.top, "rev-parse", "--git-path", "hooks")
    folder = repository.top / os.fsdecode(told).removesuffix("\n")
    managed = folder.resolve() != (repository.common_dir / "hooks").resolve()
    return [read_hook(folder / name, managed) for name in HOOKS]


def read_hook(path: Path, managed: bool) -> HookFile:
    """Read a hook; `managed` are those of `core.hooksPath`."""
    if path.parent.name == "_":  # husky's: each starts the file of its name above
        path = path.parents[1] / path.name
    text = read_text(path)
    if managed:
        return HookFile(path, text, "core.hooksPath is set")
    if path.is_symlink():
        return HookFile(path, text, "it is a link")
    if text is not None and not os.access(path, os.X_OK):
        return HookFile(path, text, "it is not executable, and so switched off")
    if text and not re.match(r"(?!#!)|#!.*\b(ba|da|k|z|a)?sh\b", text):
        return HookFile(path, text, "it is no shell script")
    return HookFile(path, text)


def read_text(path: Path) -> str | None:
    """Return a file's text, whatever its encoding; nothing if it is not there."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


# %% find_neighbours
NEIGHBOURS = {
    r"filter\.nbstripout\.|diff\.ipynb\.": ("nbstripout", "nbstripout --uninstall"),
    r"filter\.nb-clean\.": ("nb-clean", "nb-clean remove-filter"),
    r"(diff|merge)\.jupyternotebook\.": ("nbdime", "nbdime config-git --disable"),
    r"merge\.nbdev-merge\.|filter\.clean-nbs\.": (
        "nbdev",
        "git config --local --unset include.path, and delete its lines in .gitconfig",
    ),
}
TRACES = r"nbstripout|nb-clean|nbdime|jupyternotebook|nbdev[-_]\w+"


def find_neighbours(repository: Repository, files: Iterable[Path]) -> Iterator[str]:
    """Yield notes on other tools in git's settings, and in files."""
    settings = read_settings(repository.top, r"^(filter|diff|merge)\.", scope="")
    for pattern, (tool, way) in NEIGHBOURS.items():
        if any(re.match(pattern, name) for name in settings):
            yield f"{tool} is in git's configuration, too; to remove it: {way}"
    for path in dict.fromkeys(files):
        text = re.sub(BLOCK, "", read_text(path) or "")
        for word in sorted({found[0] for found in re.finditer(TRACES, text)}):
            yield f"{show_path(path, repository)} mentions `{word}`; litml replaces it"


def show_path(path: Path, repository: Repository) -> str:
    """Return a path as a person would say it."""
    for folder, name in ((repository.common_dir, ".git/"), (repository.top, "")):
        if path.is_relative_to(folder):
            return name + path.relative_to(folder).as_posix()
    return str(path)


# ## The plan
# %% Plan
OURS = r"^(filter\.litml|diff\.litml|merge(tool)?\.litml(-module)?)\."


@dataclass(frozen=True, slots=True)
class Plan:
    """How files and settings of a repository are to be; None is not to be there."""

    repository: Repository
    files: dict[Path, str | None]
    settings: dict[str, str | None]
    notes: tuple[str, ...] = ()

    def changes(self) -> list[str]:
        """Return what is not yet like that, as words for a person."""
        files = [show_path(path, self.repository) for path in self.changed_files()]
        return [*(f"git config {name}" for name in self.changed_settings()), *files]

    def changed_files(self) -> list[Path]:
        """Return the files that are not yet like that."""
        return [path for path, text in self.files.items() if read_text(path) != text]

    def changed_settings(self) -> list[str]:
        """Return the settings that are not yet like that."""
        there = read_settings(self.repository.top, OURS)
        wanted = self.settings.items()
        return [name for name, value in wanted if there.get(name) != value]


# %% plan_install
def plan_install(folder: Path, *, local: bool = False, textconv: bool = False) -> Plan:
    """Plan what a clone needs; with `local`, no file of the repository is changed.

    With `textconv`, git's own diff shows notebooks as text. Raises `GitError`.
    """
    repository = find_repository(folder)
    files: dict[Path, str | None] = {}
    home = Path(litml.__file__).parents[1]
    files[starter_path(repository)] = render_starter(sys.executable, home)
    project, root = find_place(folder, repository)
    attributes, base = root / ".gitattributes", ""
    if local:
        attributes = repository.common_dir / "info/attributes"
        base = root.relative_to(repository.top).as_posix().removeprefix(".")
    lines = attribute_lines(project, base)
    files[attributes] = put_block(read_text(attributes), lines)
    hooks = find_hooks(repository)
    for hook in hooks:
        if not hook.left:
            line = hook_line(hook.path.name)
            files[hook.path] = put_block(hook.text, line, SHEBANG)
    others = find_neighbours(repository, [attributes, *(one.path for one in hooks)])
    notes = (*note_hooks(hooks, repository), *others)
    settings = SETTINGS | TEXTCONV if textconv else SETTINGS
    return Plan(repository, files, {**settings}, notes)


def find_place(folder: Path, repository: Repository) -> tuple[Project | None, Path]:
    """Return the project around a folder, if there is one, and where attributes go."""
    try:
        project = find_project(folder)
    except ConfigError:
        return None, repository.top
    root = project.root.resolve()
    return project, root if root.is_relative_to(repository.top) else repository.top


def note_hooks(hooks: list[HookFile], repository: Repository) -> Iterator[str]:
    """Yield what a person has to do about hooks that are not ours to change."""
    for hook in hooks:
        if hook.left and not hook.has_line:
            name = show_path(hook.path, repository)
            # Others have this hook, too, and perhaps no litml.
            missing = f'[ ! -e "$(git rev-parse --git-common-dir)/{STARTER}" ]'
            line = f"{missing} || {hook_line(hook.path.name).strip()}"
            yield f"{name} is left alone: {hook.left}; add to it: {line}"


# %% plan_remove
def plan_remove(folder: Path) -> Plan:
    """Plan to be gone; raises `GitError` outside of a work tree."""
    repository = find_repository(folder)
    _, root = find_place(folder, repository)
    paths = [root / ".gitattributes", repository.top / ".gitattributes"]
    paths.append(repository.common_dir / "info/attributes")
    hooks = find_hooks(repository)
    paths += [hook.path for hook in hooks if not hook.left]
    texts = {path: read_text(path) for path in paths}
    files = {path: take_block(text) for path, text in texts.items() if text is not None}
    files[starter_path(repository)] = None
    settings = dict.fromkeys(read_settings(repository.top, OURS))
    notes = [
        f"{show_path(hook.path, repository)} has a line that starts litml: take it out"
        for hook in hooks
        if hook.left and hook.has_line
    ]
    if (repository.common_dir / "litml/outputs.sqlite").exists():
        notes.append(
            "outputs of cells stay in .git/litml/outputs.sqlite until you delete it"
        )
    return Plan(repository, files, {**settings}, tuple(notes))


# %% carry_out
def carry_out(plan: Plan) -> None:
    """Make everything as it is planned; raises `GitError` and `WriteError`."""
    top = plan.repository.top
    names = plan.changed_settings()
    for name in names:
        if plan.settings[name] is None:
            run_git(top, "config", "--local", "--unset-all", name)
    for path in plan.changed_files():
        text = plan.files[path]
        try:
            write_file(path, text)
        except OSError as error:
            raise failed(path, error) from error
    for name in names:
        if (value := plan.settings[name]) is not None:
            run_git(top, "config", "--local", "--replace-all", name, value)


def write_file(path: Path, text: str | None) -> None:
    """Write a file in one step, a script as one; without a text, delete it."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    mode |= 0o111 if text.startswith("#!") else 0
    replace_file(path, text.encode("utf-8", "surrogateescape"), mode=mode)
