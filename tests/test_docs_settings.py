"""[tool.litml.docs]: what a project can say of its site, and what it cannot."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox

from litml.docs_settings import (
    KINDS,
    DocsSettings,
    launch_urls,
    read_docs_settings,
    source_url,
)
from litml.project import Config, ConfigError, Project, find_project


def read(root: Path, **table: Any) -> DocsSettings:
    return read_docs_settings(Project(root, Config(tables={"docs": table})))


def test_every_key_is_a_setting_and_every_setting_a_key() -> None:
    assert set(KINDS) == set(DocsSettings.__slots__)


def test_the_table_is_one_of_the_project(tmp_path: Path) -> None:
    text = '[project]\nname = "a"\n[tool.litml.docs]\ntitle = "All of A"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert read_docs_settings(find_project(tmp_path)).title == "All of A"


def test_what_is_not_said_comes_from_the_project(tmp_path: Path) -> None:
    assert read(tmp_path).title == tmp_path.name
    text = '[project]\nname = "a"\ndescription = "B."\nurls.repository = "https://e.org/r/"'
    (tmp_path / "pyproject.toml").write_text(text)
    settings = read(tmp_path)
    assert (settings.title, settings.description) == ("a", "B.")
    assert settings.repository == "https://e.org/r"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"titles": "A"}, "unknown key `titles`"),
        ({"title": 1}, "a string"),
        ({"trusted": "yes"}, "true or false"),
        ({"url": "e.org"}, "no address"),
        ({"repository": "git@e.org:a"}, "no address"),
        ({"out": ""}, "no folder"),
        ({"out": "/srv/www"}, "no folder"),
        ({"theme": "../theme"}, "no folder"),
        ({"buttons": ["jupyterlite"]}, "unknown button"),
        ({"sections": {"A": "01*"}}, "a list of patterns"),
        ({"redirects": {"a.html": 1}}, "a string"),
        ({"inventories": ["torch"]}, "a table"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **table)
    assert message in caught.value.message
    assert caught.value.at and caught.value.at.notebook == "pyproject.toml"


def test_links_are_of_a_tag_or_of_the_branch() -> None:
    settings = DocsSettings(repository="https://github.com/me/sums", branch="dev")
    path = "nbs/01_add.ipynb"
    base = "https://github.com/me/sums/blob"
    assert source_url(settings, path) == f"{base}/dev/{path}"
    assert source_url(settings, path, "1.2.3") == f"{base}/v1.2.3/{path}"
    gitlab = DocsSettings(repository="https://gitlab.com/me/sums")
    assert "/-/blob/main/" in source_url(gitlab, path)
    assert source_url(DocsSettings(), path) == ""


def test_buttons_are_for_notebooks_on_github() -> None:
    settings = DocsSettings(repository="https://github.com/me/sums")
    urls = launch_urls(settings, "nbs/a.ipynb", "1.0")
    assert list(urls) == ["Open in Colab", "Open in Binder"]
    assert all("v1.0" in url and "nbs/a.ipynb" in url for url in urls.values())
    assert launch_urls(settings, "nbs/a.py") == {}
    none = DocsSettings(repository=settings.repository, buttons=())
    assert launch_urls(none, "nbs/a.ipynb") == {}


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:me/sums.git", "https://github.com/me/sums"),
        ("https://me:token@gitlab.com/a/b/sums.git", "https://gitlab.com/a/b/sums"),
        ("ssh://git@example.org:2222/me/sums", "https://example.org/me/sums"),
        ("../elsewhere", ""),
        ("/srv/git/sums.git", ""),
    ],
)
def test_a_clone_links_to_where_it_is_from(
    project: Sandbox, remote: str, address: str
) -> None:
    assert read(project.root).repository == ""
    project.git("init", "--quiet")
    assert read(project.root).repository == ""
    project.git("remote", "add", "origin", remote)
    assert read(project.root).repository == address
    assert read(project.root, repository="https://e.org/r").repository[-1] == "r"
    (project.root / "inner").mkdir()
    assert read(project.root / "inner").repository == "", "paths are others there"


def test_a_home_page_is_the_source_only_where_sources_are(tmp_path: Path) -> None:
    for page, expected in (
        ("https://sums.example.org", ""),
        ("https://github.com/me/sums", "https://github.com/me/sums"),
    ):
        urls = f'urls = {{ Homepage = "{page}", Documentation = "https://d.org/a/" }}'
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "a"\n{urls}')
        settings = read(tmp_path)
        assert (settings.repository, settings.url) == (expected, "https://d.org/a")
