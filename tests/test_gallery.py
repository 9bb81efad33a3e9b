"""Each notebook of the gallery is a test of its own; this is what they have in common.

It is told what a page shows, no figure goes without words, and nothing is fetched.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGES = sorted((Path(__file__).parents[1] / "nbs" / "gallery").glob("[0-9]*.ipynb"))
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)

DRAWS = re.compile(r"\bplt\.(figure|subplots|plot|imshow)\(")


def read_cells(page: Path) -> list[dict[str, Any]]:
    """Return the cells, each with its text in one piece."""
    cells = json.loads(page.read_bytes())["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def code_cells(page: Path) -> list[dict[str, Any]]:
    return [cell for cell in read_cells(page) if cell["cell_type"] == "code"]


@every_page
def test_a_page_says_what_to_expect(page: Path) -> None:
    """Data, result with a number, and whom it is compared with: before any code."""
    cells = read_cells(page)
    first = next(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    start = "\n".join(cell["source"] for cell in cells[:first])
    assert re.search(r"^- \*\*Data:\*\* .", start, re.MULTILINE)
    assert re.search(r"^- \*\*Result:\*\* .*\d", start, re.MULTILINE)
    assert re.search(r"^- \*\*Peers?:\*\* .", start, re.MULTILINE)


@every_page
def test_the_result_is_asserted(page: Path) -> None:
    code = "\n".join(cell["source"] for cell in code_cells(page))
    assert re.search(r"^assert ", code, re.MULTILINE)


@every_page
def test_a_figure_is_told_in_words(page: Path) -> None:
    for cell in code_cells(page):
        pictures = [
            one for one in cell["outputs"] if "image/png" in one.get("data", {})
        ]
        if pictures or DRAWS.search(cell["source"]):
            words = re.search(r"^#\| fig-alt: (.+)$", cell["source"], re.MULTILINE)
            assert words and len(words[1]) > 30, cell["id"]
        assert len(pictures) <= 2, "one figure a cell"


@every_page
def test_nothing_speaks_from_the_error_stream(page: Path) -> None:
    """Warnings and bars of progress differ from machine to machine."""
    for cell in code_cells(page):
        streams = [one for one in cell["outputs"] if one["output_type"] == "stream"]
        assert all(one["name"] == "stdout" for one in streams), cell["id"]


ALONE = """
import socket, sys
import matplotlib
matplotlib.use("Agg")

def only_here(connect):
    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise AssertionError(f"a connection to {host}")
        return connect(self, address)
    return guarded

socket.socket.connect = only_here(socket.socket.connect)
socket.socket.connect_ex = only_here(socket.socket.connect_ex)
"""


@pytest.mark.slow
@every_page
def test_nothing_is_fetched(page: Path, tmp_path: Path) -> None:
    """Slow, since every page is run a second time, now without a network.

    What another run may have left in a cache is out of reach, too.
    """
    cells = [cell["source"] for cell in code_cells(page)]
    plain = [cell for cell in cells if not re.search(r"(?m)^#\| (needs|skip)", cell)]
    script = tmp_path / f"{page.stem}.py"
    script.write_text("\n\n".join([ALONE, *plain]), "utf-8")
    environment = {**os.environ, "HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-P", str(script)]
    done = subprocess.run(
        command, cwd=page.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
