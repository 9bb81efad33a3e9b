"""How long from a save to the screen? Measured with litml's own chapters.

    python bench_preview.py [--rounds 10]

A copy of the project is previewed and shown by a Chromium (`LITML_CHROMIUM`, or the
one on the path). A chapter is saved again and again, with other prose or with another
docstring in an exported cell, and four moments are noted:

    noticed   the watcher has woken; 50 ms of it are waiting for more saves
    taken in  settings, export and the list of notebooks are done
    told      the event is on its way to the page
    shown     the text is in the page of the browser

Times on the clock depend on what else the machine does: its load is printed, too.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from litml.docs_commands import preview_plan
from litml.live_pages import LivePages, fill_in, look, refresh
from litml.preview import Server, open_preview, watch_project

ROOT = Path(__file__).parents[3]
CHAPTER = "nbs/04_export.ipynb"
MOMENTS = ("noticed", "taken in", "told")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run"]


def copy_project(folder: Path) -> Path:
    """Copy what a preview needs of the project."""
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("nbs", "litml"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def edit(text: str, mark: str, exported: bool) -> str:
    """Return a chapter with a mark in its prose, or in its first docstring."""
    tree = json.loads(text)
    for cell in tree["cells"][1:]:
        source = "".join(cell["source"])
        if exported and source.startswith("#| export") and '"""' in source:
            cell["source"] = source.replace('"""', f'"""{mark} ', 1)
            break
        if not exported and cell["cell_type"] == "markdown":
            cell["source"] = f"{source}\n\n{mark} is here."
            break
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


def follow(pages: LivePages, server: Server, seen: dict[str, float]) -> None:
    """Renew the pages after saves; note when."""
    for _ in watch_project(pages, server.stop):
        seen.setdefault("noticed", time.perf_counter())
        refresh(pages)
        seen.setdefault("taken in", time.perf_counter())


def listen(server: Server, seen: dict[str, float]) -> None:
    """Note when an event comes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request("GET", f"/{server.token}/_preview/events?page=export")
    answer = connection.getresponse()
    while line := answer.readline():
        if line.startswith(b"data"):
            seen.setdefault("told", time.perf_counter())


def measure(page: Any, path: Path, text: str, mark: str, seen: dict[str, float]) -> Any:
    """Save, wait for the screen; return what it took, in milliseconds."""
    is_shown = f"document.querySelector('main').textContent.includes('{mark} ')"
    seen.clear()
    start = time.perf_counter()
    path.write_text(text, "utf-8")
    while not page.evaluate(is_shown):
        time.sleep(0.005)
    shown = time.perf_counter()
    time.sleep(2.5)  # the background has done its part
    return [1000 * (seen[name] - start) for name in MOMENTS] + [1000 * (shown - start)]


def timed(what: str, work: Any) -> Any:
    """Do something; print what it took."""
    start, cpu = time.perf_counter(), time.process_time()
    done = work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what}: {wall:.2f} s on the clock, {cpu:.2f} s of CPU")
    return done


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = copy_project(Path(folder).resolve())
        pages = timed("start", lambda: LivePages(lambda: preview_plan(root)))
        timed("first page", lambda: look(pages, "export"))
        timed(f"the rest of {len(pages.sources)} pages", lambda: fill_in(pages))
        names = ("chromium", "chromium-browser", "google-chrome")
        chromium = os.environ.get("LITML_CHROMIUM") or next(
            filter(None, map(shutil.which, names))
        )
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        seen: dict[str, float] = {}
        with open_preview(pages) as server:
            page = browser.new_page()
            page.goto(f"{server.url}export.html")
            for work in (
                lambda: follow(pages, server, seen),
                lambda: listen(server, seen),
            ):
                threading.Thread(target=work, daemon=True).start()
            time.sleep(3)
            text = (root / CHAPTER).read_text("utf-8")
            load, cores = os.getloadavg()[0], os.cpu_count()
            print(f"load {load:.1f} on {cores} cores; medians in milliseconds")
            print("| edit |", " | ".join([*MOMENTS, "shown"]), "|")
            for kind, exported in (("prose", False), ("exported cell", True)):
                rows = []
                for number in range(rounds):
                    mark = f"{kind[0].upper()}mark{number}"
                    new = edit(text, mark, exported)
                    rows.append(measure(page, root / CHAPTER, new, mark, seen))
                medians = [
                    f"{statistics.median(row):.0f}" for row in zip(*rows, strict=True)
                ]
                print(f"| {kind} |", " | ".join(medians), "|")
            print(f"load {os.getloadavg()[0]:.1f} afterwards")
            browser.close()


if __name__ == "__main__":
    main()
