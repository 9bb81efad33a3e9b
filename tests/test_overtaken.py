"""A notebook is saved while litml is at work on it: what was saved is there after."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox, code

import litml.server
from litml.files import Overtaken, replace_seen
from litml.project import find_project

NAME = "01_data.ipynb"
FORE, AFTER = "spare = 'before'", "spare = 'saved meanwhile'"
SAVE = f"""import pathlib

path = pathlib.Path({NAME!r})
_ = path.write_text(path.read_text().replace({FORE!r}, {AFTER!r}, 1))"""


def write(project: Sandbox, *cells: dict[str, Any]) -> Path:
    """Write a notebook in no canonical form, whose first cell is the one edited."""
    return project.write(NAME, code("spare", FORE), *cells, metadata={"x": 1})


def saving(path: Path, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does its work, after which somebody saves."""

    def save_and_work(*args: Any, **more: Any) -> Any:
        done = work(*args, **more)
        path.write_text(path.read_text().replace(FORE, AFTER))
        return done

    return save_and_work


def test_a_save_while_it_runs(project: Sandbox) -> None:
    path = write(project, code("save", SAVE), code("show", "1 + 1"))
    done = project.litml("run", "--inplace", path)
    assert done.returncode == 2 and "changed by another program" in done.stderr
    assert AFTER in path.read_text() and '"outputs": []' in path.read_text()
    assert not project.leftovers()


def test_a_save_while_the_watcher_cleans(
    project: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(project)
    clean = saving(path, litml.server.clean_content)
    monkeypatch.setattr("litml.server.clean_content", clean)
    assert not litml.server.clean_file(path, find_project(project.root))
    assert AFTER in path.read_text() and not project.leftovers()


def test_a_file_system_without_second_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has changed by the last look stays there, too."""

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    path, new = tmp_path / "data.py", tmp_path / ".data.py.litml-new"
    new.write_text("new")
    path.write_text("edited")
    with pytest.raises(Overtaken):
        replace_seen(new, path, b"seen")
    assert path.read_text() == "edited"
    replace_seen(new, path, b"edited")
    assert path.read_text() == "new" and [*tmp_path.iterdir()] == [path]
