# Exported from nbs/17a_preview.ipynb. Edit either side, then run `litml sync`.
"""The site while one writes: a save, and it is on the screen."""

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from litml.live_pages import (
    LivePages,
    View,
    fill_in,
    find_moved,
    look,
    read_file,
    refresh,
    show,
)
from litml.notebook import LitmlError
from litml.site import Plan
from litml.theme import HERE

__all__ = [
    "Server",
    "Handler",
    "HEADERS",
    "list_events",
    "QUIET",
    "LOOK",
    "watch_project",
    "is_news",
    "open_preview",
    "work",
    "REST",
    "preview",
    "PreviewError",
]


# ## A page that renews itself
# %% add_script
SCRIPT = HERE / "_preview.js"


def add_script(view: View, name: str) -> str:
    """Return a page with the script that keeps it up to date."""
    source = f"{'../' * name.count('/')}_preview/script.js"
    about = f'data-page="{escape(name)}" data-key="{view.key}"'
    tag = f'<script src="{source}" {about} defer></script>'
    head, found, rest = view.html.partition("<head>")
    return f"{head}{found}{tag}{rest}" if found else f"{tag}{head}"


# %% make_stub
def make_stub(title: str) -> View:
    """Return a page that says what stands in its place."""
    style = "font-family: system-ui; max-width: 40rem; margin: 4rem auto"
    return View(
        f'<!doctype html><html lang="en"><head><title>{title}</title></head>'
        f'<body style="{style}"><main><h1>{title}</h1></main></body></html>'
    )


# ## Who may ask
# %% find_path
def find_path(url: str, token: str) -> str | None:
    """Return the path behind the secret word; None if the word is another."""
    path = unquote(urlsplit(url).path)
    start, _, rest = path.removeprefix("/").partition("/")
    if not path.startswith("/") or "\0" in path or not is_same(start, token):
        return None
    return f"{rest}index.html" if rest[-1:] in ("", "/") else rest


def is_same(one: str, other: str) -> bool:
    """Compare two words in a time that tells nothing of them."""
    return secrets.compare_digest(one.encode(), other.encode())


# ## The server
# %% Server
class Server(ThreadingHTTPServer):
    """Serves live pages to this computer; raises `OSError` if the port is taken."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # on Windows two servers could share one

    def __init__(self, pages: LivePages, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.pages = pages
        self.token = secrets.token_urlsafe(12)
        self.stop = threading.Event()
        names = ("127.0.0.1", "localhost")
        self.hosts = {f"{name}:{self.server_port}" for name in names}

    @property
    def url(self) -> str:
        """The address of the front page."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            # typeshed wants the kinds of each server; all that is done is to print
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a request."""
        path = find_path(self.path, self.server.token)
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            self.send(403, b"This address is not served here.\n")
        elif path is None:
            self.send(404, b"There is nothing here.\n")
        elif path == "_preview/events" and self.command == "GET":
            self.send_events()
        else:
            self.send(*find_answer(self.server.pages, path))

    do_HEAD = do_GET

    def send(self, status: int, data: bytes, kind: str = "text/plain") -> None:
        """Send an answer."""
        self.send_response(status)
        text = kind.startswith("text/") or kind.endswith(("javascript", "json"))
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if text else kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_events(self) -> None:
        """Tell what is news of a page, until the client goes or the server ends."""
        name = parse_qs(urlsplit(self.path).query).get("page", ["index"])[0]
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        for line in list_events(self.server.pages, name, self.server.stop):
            self.wfile.write(line.encode())
            self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of a request."""


HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


# %% find_answer
def find_answer(pages: LivePages, path: str) -> tuple[int, bytes, str]:
    """Return status, content and kind of what is asked for."""
    if path == "_preview/script.js":
        return 200, SCRIPT.read_bytes(), "text/javascript"
    name = path.removesuffix(".html")
    if name != path and not name.startswith("_"):  # as what stands in a frame does
        view = show(pages, name)
        if view is None and (moved := find_moved(pages, path)):
            return 200, moved, "text/html"
        status = 404 if view is None else 200
        if view is None or not view.key:
            title = "This page cannot be shown yet" if view else "There is no such page"
            view = make_stub(title)
        return status, add_script(view, name).encode("utf-8", "replace"), "text/html"
    data = read_file(pages, path)
    if data is None:
        return 404, b"There is no such file.\n", "text/plain"
    return 200, data, guess_type(path)[0] or "application/octet-stream"


# %% list_events
def list_events(
    pages: LivePages, name: str, stop: threading.Event, seconds: float = 10
) -> Iterator[str]:
    """Yield what is to be sent to an open page, until the end."""
    told, version = "", -1
    while not stop.is_set():
        version = pages.wait(version, seconds)
        news = json.dumps(look(pages, name))
        yield ": nothing new\n\n" if news == told else f"data: {news}\n\n"
        told = news


# ## The watcher
# %% list_watched
def list_watched(plan: Plan) -> list[Path]:
    """Return the folders that pages depend on, as far as they are there."""
    project, theme = plan.project, plan.settings.theme
    folders = [project.notebooks_dir, project.package_dir]
    folders += [project.root / theme] if theme else []
    return [folder for folder in folders if folder.is_dir()]


def stamp(path: Path) -> tuple[int, ...]:
    """Return what is different when a file was written, or a folder replaced."""
    try:
        status = path.stat()
    except OSError:
        return ()
    written = (status.st_size, status.st_mtime_ns) if path.is_file() else ()
    return (status.st_ino, *written)


# %% watch_project
QUIET = 50  # milliseconds without an event after which one looks
LOOK = 300  # milliseconds after which one looks at `pyproject.toml` in any case


def watch_project(pages: LivePages, stop: threading.Event) -> Iterator[None]:
    """Yield after something was saved, until `stop` is set."""
    from watchfiles import watch

    while not stop.is_set():
        folders, config = list_watched(pages.plan), None  # so the first look is news
        known = list(map(stamp, folders))
        if not folders:
            time.sleep(LOOK / 1000)
            yield
            continue
        for changes in watch(
            *folders,
            stop_event=stop,
            step=QUIET,
            debounce=8 * QUIET,
            rust_timeout=LOOK,
            yield_on_timeout=True,
        ):
            now = stamp(pages.plan.project.root / "pyproject.toml")
            news = any(is_news(path, pages.written) for _, path in changes)
            if news or now != config or "notebooks" in pages.problems:
                config = now
                yield
            if (
                list_watched(pages.plan) != folders
                or list(map(stamp, folders)) != known
            ):
                break


def is_news(path: str, written: Mapping[str, int]) -> bool:
    """Has somebody else changed a file since we wrote it?"""
    # So are files called until they are complete, or for the moment of a rename.
    if path.endswith((".new", "-new", "-old")):
        return False
    try:
        return os.stat(path).st_mtime_ns != written.get(path)
    except OSError:
        return True


# ## All together
# %% open_preview
@contextmanager
def open_preview(pages: LivePages, port: int = 0) -> Iterator[Server]:
    """Serve pages, and make the rest of them, as long as the context is open."""
    server = Server(pages, port)
    works = [server.serve_forever, lambda: work(pages, server.stop)]
    threads = [threading.Thread(target=one, daemon=True) for one in works]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        pages.round += 1  # which ends what is done in the background
        pages.tell()
        server.shutdown()
        for thread in threads:
            thread.join(5)
        server.server_close()


def work(pages: LivePages, stop: threading.Event) -> None:
    """Make pages in the background, when a round is not quite new any more."""
    seen = done = -1
    while not stop.wait(REST):
        now = pages.round
        if now == seen != done:
            done = now
            with pages.noting("background"):
                fill_in(pages)
        seen = now


REST = 0.3  # seconds, in which an open page gets what is new


# %% preview
def preview(
    read_plan: Callable[[], Plan],
    port: int = 0,
    exports: bool = True,
    ready: Callable[[str], object] = print,
) -> None:
    """Show a project's pages until interrupted; `ready` is told the address.

    Raises `PreviewError` if the port is taken, and what is wrong with the project.
    """
    pages = LivePages(read_plan, exports)
    try:
        with open_preview(pages, port) as server:
            ready(server.url)
            for _ in watch_project(pages, server.stop):
                refresh(pages)
    except OSError as error:
        hint = "choose another with `--port`, or leave it out"
        message = f"cannot listen at port {port}: {error.strerror or error}"
        raise PreviewError(message, hint=hint) from error


class PreviewError(LitmlError):
    """A preview that cannot begin."""
