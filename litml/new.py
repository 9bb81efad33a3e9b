# Exported from nbs/19_new.ipynb. Edit either side, then run `litml sync`.
"""Make a project from a template: complete, and green from its first minute."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError

import litml
from litml.answers import Answers, NewError, check_answers
from litml.notebook import Location, parse_notebook, suggest
from litml.package import export_project
from litml.project import find_project

__all__ = [
    "COMMON",
    "Template",
    "templates_dir",
    "list_templates",
    "read_template",
    "read_folder",
    "make_renderer",
    "quoted",
    "write_import",
    "render_text",
    "render_notebook",
    "render_template",
    "render_path",
    "template_values",
    "bounded",
    "export_files",
    "write_tree",
    "RECORD",
    "blob_id",
    "Record",
    "make_record",
    "write_folder",
    "check_target",
    "new_project",
]


# ## A template
# %% Template
COMMON = "_common"


@dataclass(frozen=True, slots=True)
class Template:
    """A template: its name, and the bytes of its files by their path, with slashes.

    `common` are the paths of those that all templates share.
    """

    name: str
    files: Mapping[str, bytes]
    common: frozenset[str] = frozenset()

    def place(self, path: str) -> str:
        """Return what messages call a file."""
        return f"templates/{COMMON if path in self.common else self.name}/{path}"


# %% templates_dir
def templates_dir() -> Path:
    """Return the folder of the templates, of the wheel or of the checkout."""
    package = Path(litml.__path__[0])
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


# %% list_templates
def list_templates() -> list[str]:
    """Return the names of the templates."""
    folders = [path for path in templates_dir().iterdir() if path.is_dir()]
    return sorted(path.name for path in folders if path.name[0] not in "._")


# %% read_template
def read_template(name: str) -> Template:
    """Read the template called `name`; raises `NewError` if there is none."""
    known = list_templates()
    if name not in known:
        hint = suggest(name, known) or f"there are {', '.join(known)}"
        raise NewError(f"no template `{name}`", hint=hint)
    common, own = (read_folder(templates_dir() / one) for one in (COMMON, name))
    files = dict(sorted({**common, **own}.items()))
    return Template(name, files, frozenset(common) - frozenset(own))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, except those that hide."""
    files = {}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            files["/".join(parts)] = path.read_bytes()
    return files


# %% make_renderer
def make_renderer() -> Environment:
    """Return jinja with the marks `@@value@@`, `@% if … %@`, `@# a comment #@`."""
    renderer = Environment(
        variable_start_string="@@",
        variable_end_string="@@",
        block_start_string="@%",
        block_end_string="%@",
        comment_start_string="@#",
        comment_end_string="#@",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # none of the files is HTML
    )
    renderer.filters["quoted"] = quoted
    renderer.globals["imports"] = write_import
    return renderer


# %% quoted
def quoted(text: str) -> str:
    """Return the text as a string literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


# %% write_import
def write_import(module: str, *names: str) -> str:
    """Return the import of sorted names, on one line of 88 characters if it fits."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= 88:
        return line
    listed = "".join(f"    {name},\n" for name in names)
    return f"from {module} import (\n{listed})"


# %% render_text
def render_text(renderer: Environment, text: str, values: Mapping[str, Any]) -> str:
    """Fill in one text; raises `jinja2.TemplateError`."""
    return renderer.from_string(text).render(values)


# %% render_notebook
def render_notebook(
    renderer: Environment, raw: bytes, name: str, values: Mapping[str, Any]
) -> bytes:
    """Fill in the source of every cell of a notebook. Raises `NewError`."""
    notebook = parse_notebook(raw, name)
    for cell in notebook.cells:
        try:
            cell.source = render_text(renderer, cell.source, values)
        except TemplateError as error:
            at = Location(name, cell.id)
            raise NewError(f"cannot be filled in: {error}", at=at) from error
    return notebook.to_bytes()


# %% render_template
def render_template(template: Template, answers: Answers) -> dict[str, bytes]:
    """Return the files that the template makes of the answers.

    Raises `NewError`, with the template's file, for a text that cannot be filled in.
    """
    renderer = make_renderer()
    values = {**template_values(answers), "template": template.name}
    files: dict[str, bytes] = {}
    for source, content in template.files.items():
        place = template.place(source)
        try:
            path = render_path(renderer, source, values)
            if path.endswith(".ipynb"):
                files[path] = render_notebook(renderer, content, place, values)
            else:
                text = content.decode("utf-8")
                files[path] = render_text(renderer, text, values).encode("utf-8")
        except TemplateError as error:
            at = Location(place)
            raise NewError(f"cannot be filled in: {error}", at=at) from error
    return files


# %% render_path
def render_path(renderer: Environment, path: str, values: Mapping[str, Any]) -> str:
    """Return where a file of the template goes: `dot_x` is `.x`, `x.tmpl` is `x`."""
    parts = render_text(renderer, path, values).removesuffix(".tmpl").split("/")
    return "/".join(re.sub("^dot_", ".", part) for part in parts)


# %% template_values
def template_values(answers: Answers) -> dict[str, Any]:
    """Return the names that a template may use, with their values."""
    given = {one.name: getattr(answers, one.name) for one in fields(answers)}
    extras = {"litml": "docs,release", "litml_train": "train"}
    needs = {
        key: bounded(f"litml[{extra}]", litml.__version__)
        for key, extra in extras.items()
    }
    return {**given, **needs, "package": answers.package}


# %% bounded
def bounded(name: str, version: str) -> str:
    """Return the requirement for `version` of a project, and what is compatible."""
    public = version.partition("+")[0]
    major, minor = (int(part) for part in re.findall(r"\d+", public)[:2])
    limit = f"0.{minor + 1}" if major == 0 else f"{major + 1}"
    return f"{name}>={public},<{limit}"


# ## The first export
# %% export_files
def export_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files together with those that their notebooks export."""
    with tempfile.TemporaryDirectory(prefix="litml-new-") as temporary:
        root = Path(temporary).resolve()
        write_tree(root, files)
        project = find_project(root)
        for problem in export_project(project).problems:
            raise problem
        made = [*project.package_dir.rglob("*"), root / project.config.readme]
        exported = {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(made)
            if path.is_file()
        }
    return {**files, **exported}


# %% write_tree
def write_tree(root: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder, with the folders they need."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# ## What a project remembers
# %% blob_id
RECORD = ".litml-template.json"


def blob_id(content: bytes) -> str:
    """Return the name that git gives to a file with this content."""
    whole = b"blob %d\0%b" % (len(content), content)
    return hashlib.sha1(whole, usedforsecurity=False).hexdigest()


# %% Record
@dataclass(frozen=True, slots=True)
class Record:
    """What a project was made from: `files` are ids of contents, by path."""

    template: str
    litml: str
    answers: Answers
    files: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the file that holds the record, the same on every machine."""
        tree = {**asdict(self), "files": dict(sorted(self.files.items()))}
        return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()


# %% make_record
def make_record(template: str, answers: Answers, files: Mapping[str, bytes]) -> Record:
    """Return the record of what a template has just made."""
    ids = {path: blob_id(content) for path, content in files.items()}
    return Record(template, litml.__version__, answers, ids)


# ## Nothing half-made
# %% write_folder
def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Create the folder `target` with these files in it, or nothing at all.

    Raises `NewError` if something is there already, `OSError` if it cannot be written.
    """
    prefix = f".{target.name}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as temporary:
        # Not the temporary folder itself, which only its owner may read
        complete = Path(temporary) / target.name
        complete.mkdir()
        write_tree(complete, files)
        check_target(target)
        if target.exists():
            target.rmdir()
        complete.rename(target)


# %% check_target
def check_target(target: Path) -> None:
    """Raise `NewError` unless `target` is free, or an empty folder."""
    if not os.path.lexists(target):
        return
    empty = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    if not empty:
        hint = "choose another name, or move it away"
        raise NewError(f"`{target.name}` exists and is not an empty folder", hint=hint)


# %% new_project
def new_project(
    target: Path, answers: Answers, template: str = "package"
) -> tuple[str, ...]:
    """Make a project in the folder `target`, and return the paths of its files.

    Raises `NewError` for a bad answer, an unknown template, or a folder in the way;
    the target is then as it was before.
    """
    check_answers(answers)
    check_target(target)
    files = render_template(read_template(template), answers)
    record = make_record(template, answers, files).to_bytes()
    try:
        files = {**export_files(files), RECORD: record}
        write_folder(target, files)
        export_project(find_project(target))  # which notes what the modules come from
    except OSError as error:
        reason = error.strerror or str(error)
        raise NewError(f"cannot make `{target.name}`: {reason}") from error
    return tuple(sorted(files))
