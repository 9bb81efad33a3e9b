"""A small project with a module, and its site."""

from pathlib import Path
from typing import Any

from conftest import Sandbox, code, prose

from litml.docs_settings import read_docs_settings
from litml.project import find_project
from litml.site import Plan, SiteReport, build_site

PYPROJECT = """[project]
name = "sums"
description = "Adding up."
urls.Source = "https://github.com/me/sums"
[tool.litml]
[tool.litml.docs]
{docs}
"""
ADD = '''def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b
'''


class SiteBox(Sandbox):
    """A project of four notebooks, two of them in a folder."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.configure()
        self.write_package("add.py", f"# %% add\n{ADD}")
        self.write("index.ipynb", prose("title", "# Sums\n\n> Adding up.\n\nBegin."))
        self.write(
            "01_add.ipynb",
            prose("title", "# Adding\n\n> One and one."),
            code("add", f"#| export\n{ADD}"),
            code("use", "assert add(1) == 2"),
            prose("more", "## More\n\nA word that is rare: zebra."),
        )
        self.write(
            "guide/01_start.ipynb",
            prose("title", "# Start\n\n> Begin here."),
            prose(
                "link", "See `sums.add.add` and [the chapter](../01_add.ipynb#more)."
            ),
        )
        self.write("guide/02_next.ipynb", prose("title", "# Next\n\n> Go on."))

    def configure(self, docs: str = "") -> None:
        """Write the project's file, with lines for `[tool.litml.docs]`."""
        text = PYPROJECT.replace("{docs}", docs)
        (self.root / "pyproject.toml").write_text(text, "utf-8")

    def write_package(self, name: str, text: str) -> None:
        """Write a module of the package."""
        path = self.root / "sums" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")

    def build(self, out: str = "_site", **more: Any) -> SiteReport:
        """Build the site, in this process."""
        project = find_project(self.root)
        settings = read_docs_settings(project)
        plan = Plan(project, settings, self.root / out, **{"workers": 1, **more})
        return build_site(plan)

    def page(self, name: str) -> str:
        """Return a file of the site."""
        return (self.root / "_site" / name).read_text("utf-8")

    def files(self) -> dict[str, bytes]:
        """Return all files of the site."""
        site = self.root / "_site"
        paths = (path for path in site.rglob("*") if path.is_file())
        return {path.relative_to(site).as_posix(): path.read_bytes() for path in paths}
