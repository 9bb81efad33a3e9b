# Exported from nbs/17c_standalone.ipynb. Edit either side, then run `litml sync`.
"""One notebook as one file, by Jupyter's own converter: `jupyter nbconvert --to
litml`.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

from nbconvert.exporters import Exporter, PDFExporter, SlidesExporter
from nbconvert.preprocessors import Preprocessor

from litml.notebook import Notebook, parse_notebook
from litml.outputs import inline_scripts
from litml.page import Code, Page, Shown
from litml.pages import make_page
from litml.project import ConfigError, find_project
from litml.render import render_page
from litml.safe import read_inside
from litml.theme import open_theme

__all__ = ["LitmlExporter", "Obey", "LitmlSlidesExporter", "LitmlPdfExporter"]


# ## The page of a notebook
# %% page_of
def page_of(given: Any, resources: dict[str, Any]) -> Page:
    """Return the page of a notebook as nbconvert has it; raises `LitmlError`."""
    about = resources.get("metadata", {})
    name = str(about.get("name", "notebook"))
    notebook = parse_notebook(json.dumps(given).encode(), f"{name}.ipynb")
    module, text = find_module(Path(about.get("path") or "."), notebook)
    return make_page(notebook, name, module, text)


def find_module(folder: Path, notebook: Notebook) -> tuple[str, str]:
    """Return the module that is made of a notebook, and its text, if it is there."""
    from litml.sources import read_source

    try:
        project = find_project(folder)
    except ConfigError:
        return "", ""
    path = (folder / notebook.name).resolve()
    if not (path.is_file() and path.is_relative_to(project.notebooks_dir)):
        return "", ""
    source = read_source(project, path, path.stem)
    if not source.module:
        return "", ""
    return source.module, (project.root / source.module_file).read_text("utf-8")


# ## Everything in one file
# %% inline_assets
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif"}
KINDS |= {".svg": "image/svg+xml", ".webp": "image/webp"}


def inline_assets(html: str, assets: dict[str, bytes]) -> str:
    """Return a page with its images and frames inside."""
    for name, data in assets.items():
        kind = KINDS.get(Path(name).suffix)
        if kind:
            coded = base64.b64encode(data).decode()
            html = html.replace(f'"{name}"', f'"data:{kind};base64,{coded}"')
        else:
            inner = inline_scripts(data, assets).decode("utf-8", "replace")
            quoted = inner.replace("&", "&amp;").replace('"', "&quot;")
            html = html.replace(f'src="{name}"', f'srcdoc="{quoted}"')
    return html


# %% write_page
FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}
.standalone .content {{ margin: 2rem auto; max-width: 46rem; padding: 0 1rem }}
</style>
</head>
<body class="standalone">
<main id="main" class="content">
{main}
</main>
</body>
</html>
"""


def resolve_nothing(name: str, module: str = "") -> str | None:
    """There is no other page that a name could lead to."""
    return None


def write_page(page: Page, root: Path) -> str:
    """Return a page as one file of HTML; images are read from below `root`."""
    assets: dict[str, bytes] = {}
    rendered = render_page(page, resolve_nothing, assets, read=read_inside(root))
    style = open_theme().files["site.css"].decode().replace("</", "<\\/")
    title = re.sub("[<>&]", " ", page.title)
    main = inline_assets(rendered.html, assets)
    return FRAME.format(title=title, style=style, main=main)


# ## The exporters
# %% LitmlExporter
class LitmlExporter(Exporter):
    """A page as on the site, in one file."""

    export_from_notebook = "litml"
    output_mimetype = "text/html"

    def _file_extension_default(self) -> str:
        return ".html"

    def from_notebook_node(  # type: ignore[override]  # as nbconvert's own: a text
        self, nb: Any, resources: Any = None, **kwargs: Any
    ) -> tuple[str, Any]:
        """Return the HTML of a notebook, and what nbconvert knows of it."""
        nb, resources = super().from_notebook_node(nb, resources, **kwargs)
        root = Path(resources["metadata"].get("path") or ".")
        return write_page(page_of(nb, resources), root), resources


# %% Obey
class Obey(Preprocessor):
    """Leave in a notebook what its directives let a reader see."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Return the notebook as a reader is to see it."""
        blocks = page_of(nb, resources).blocks
        code = {one.cell: one.source for one in blocks if isinstance(one, Code)}
        shown = {one.cell for one in blocks if isinstance(one, Shown)}
        kept = []
        for cell in nb.cells:
            if cell.cell_type != "code":
                kept.append(cell)
            elif cell.id in code or cell.id in shown:
                cell.source = code.get(cell.id, "")
                cell.outputs = cell.outputs if cell.id in shown else []
                cell.transient = {"remove_source": cell.id not in code}
                kept.append(cell)
        nb.cells = kept
        return nb, resources


class LitmlSlidesExporter(SlidesExporter):
    """Slides that obey the directives."""

    export_from_notebook = "litml slides"

    def _preprocessors_default(self) -> list[type[Preprocessor]]:
        return [Obey]


class LitmlPdfExporter(PDFExporter):
    """Paper that obeys the directives; needs LaTeX."""

    export_from_notebook = "litml PDF"

    def _preprocessors_default(self) -> list[type[Preprocessor]]:
        return [Obey]
