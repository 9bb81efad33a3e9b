# Exported from nbs/04b_readme.ipynb. Edit either side, then run `litml sync`.
"""Turn a notebook into one Markdown page: the README, from the index notebook."""

import re

from litml.cells import Directive, read_directives, split_head
from litml.notebook import Cell, Notebook

__all__ = ["render_readme"]


# %% render_readme
def render_readme(notebook: Notebook, flags: tuple[str, ...] = ()) -> str:
    """Return the notebook as a Markdown page that names its source."""
    parts = [
        f"<!-- Exported from {notebook.name}. Edit that, then run `litml export`. -->"
    ]
    said = read_directives(notebook, flags)
    for cell, directives in zip(notebook.cells, said, strict=True):
        if cell.kind == "markdown":
            parts.append(split_head(cell.source).body.strip())
        elif cell.kind == "code" and is_shown(directives):
            parts += render_code(cell, directives, notebook.language)
    return "\n\n".join(part for part in parts if part) + "\n"


# %% is_shown
HIDDEN = ("hide", "export", "exporti", "exports", "default_exp")


def is_shown(said: dict[str, Directive]) -> bool:
    """Does a code cell belong on the page?"""
    if said.keys() & set(HIDDEN):
        return False
    return "include" not in said or said["include"].value != "false"


# %% render_code
def render_code(cell: Cell, said: dict[str, Directive], language: str) -> list[str]:
    """Return a code cell as fenced blocks: the code, then what it put out."""
    body = split_head(cell.source, language).body
    blocks = []
    if body and not ("echo" in said and said["echo"].value == "false"):
        blocks.append(f"```{language}\n{body}\n```")
    if "output" in said and said["output"].value == "false":
        return blocks
    return blocks + [text for output in cell.outputs if (text := render_output(output))]


# %% render_output
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def render_output(output: dict[str, object]) -> str:
    """Return one output as Markdown, or nothing if it has no text form."""
    data = output.get("data")
    forms = data if isinstance(data, dict) else {"text/plain": output.get("text")}
    if markdown := join(forms.get("text/markdown")):
        return markdown.strip()
    if any(str(form).startswith("image/") for form in forms):
        return ""
    text = ANSI.sub("", join(forms.get("text/plain"))).rstrip()
    return f"```text\n{text}\n```" if text else ""


# %% join
def join(text: object) -> str:
    """Join text that may be stored as a list of lines."""
    return "".join(text) if isinstance(text, list) else str(text or "")
