# Exported from nbs/18e_loopback.ipynb. Edit either side, then run `litml sync`.
"""Serve and take files as a package index does, for as long as a rehearsal lasts."""

import hashlib
import html
import json
import threading
from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

from litml.indexes import Index, normalize

__all__ = ["parse_form", "list_page", "LoopbackIndex"]


# ## The form
# %% parse_form
def parse_form(body: bytes, kind: str) -> dict[str, tuple[str, bytes]]:
    """Return the fields of a form: the name of the file, if it is one, and the bytes.

    `kind` is the content type, which says what separates the fields.
    """
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    mail: Message = BytesParser().parsebytes(head + body)
    found = {}
    for part in mail.get_payload():
        if isinstance(part, Message):
            name = str(part.get_param("name", "", "content-disposition"))
            data = part.get_payload(decode=True)
            found[name] = (
                part.get_filename() or "",
                data if isinstance(data, bytes) else b"",
            )
    return found


# ## The pages
# %% list_page
def list_page(files: Mapping[str, bytes], as_json: bool) -> bytes:
    """Return the simple page of some files, as PEP 691 or as PEP 503 has it."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    if as_json:
        listed = [
            {
                "filename": name,
                "url": f"/files/{quote(name)}",
                "hashes": {"sha256": digest},
            }
            for name, digest in digests.items()
        ]
        return json.dumps({"meta": {"api-version": "1.0"}, "files": listed}).encode()
    links = "".join(
        f'<a href="/files/{quote(name)}#sha256={digest}">{html.escape(name)}</a>\n'
        for name, digest in digests.items()
    )
    return f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode()


# ## The server
# %% Handler
class Handler(BaseHTTPRequestHandler):
    """Answers the requests of twine, pip and litml."""

    server: "Server"

    def do_GET(self) -> None:
        """Answer with a simple page or a file."""
        parts = [
            unquote(part) for part in self.path.partition("?")[0].split("/") if part
        ]
        if len(parts) == 2 and parts[0] == "files" and parts[1] in self.server.files:
            self.reply(200, self.server.files[parts[1]], "application/octet-stream")
            return
        found = self.server.of_project(parts[1]) if len(parts) == 2 else {}
        if parts[:1] != ["simple"] or not found:
            self.reply(404, b"no such page")
            return
        as_json = "simple.v1+json" in self.headers.get("Accept", "")
        kind = "application/vnd.pypi.simple.v1+json" if as_json else "text/html"
        self.reply(200, list_page(found, as_json), kind)

    def do_POST(self) -> None:
        """Take a file."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        form = parse_form(body, self.headers.get("Content-Type", ""))
        name, data = form.get("content", ("", b""))
        if not name or "/" in name:
            self.reply(400, b"there is no file in this form")
        elif name in self.server.files:
            self.reply(400, b"this file name is taken")
        else:
            self.server.projects[name] = form["name"][1].decode()
            self.server.files[name] = data
            self.reply(200, b"thank you")

    def reply(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """The files that were taken, and the projects they belong to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.projects: dict[str, str] = {}

    def of_project(self, name: str) -> dict[str, bytes]:
        """Return a project's files."""
        return {
            file: data
            for file, data in self.files.items()
            if normalize(self.projects[file]) == normalize(name)
        }


# %% LoopbackIndex
class LoopbackIndex:
    """An index on this machine, as long as its `with` lasts; `index` is its address.

    `files` is what has been uploaded to it.
    """

    def __enter__(self) -> "LoopbackIndex":
        self.server = Server()
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        address = f"http://127.0.0.1:{self.server.server_port}"
        self.index = Index(f"{address}/", f"{address}/simple")
        self.files = self.server.files
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
