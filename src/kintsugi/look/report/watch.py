"""`kintsugi report RUN --watch`: the report of a run that goes on, on the loopback; the page renews itself."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from kintsugi.look.report.page import page_of
from kintsugi.records import KintsugiError

TABLES = {".parquet", ".jsonl"}


class LivePage(ThreadingHTTPServer):
    """Serves the report of a directory on 127.0.0.1. `address` is what a browser opens."""

    daemon_threads = True

    def __init__(self, directory: Path, port: int = 0) -> None:
        try:
            super().__init__(("127.0.0.1", port), Page)
        except OSError as error:
            raise KintsugiError(
                f"--port {port}: cannot be listened on ({error.strerror}); 0 takes a free one"
            ) from None
        self.directory, self.lock = directory, Lock()
        self.made: tuple[str, bytes] = ("", b"")
        self.address = f"http://127.0.0.1:{self.server_port}/"

    def version(self) -> str:
        """A word that changes whenever something is written down."""
        found = [f.stat() for f in self.directory.rglob("*") if f.suffix in TABLES]
        return f"{len(found)}-{sum(s.st_size for s in found)}"

    def page(self) -> bytes:
        """The page as the run stands; made once for each of its states."""
        with self.lock:
            if (now := self.version()) != self.made[0]:
                self.made = now, page_of(self.directory, version=now).encode()
            return self.made[1]


class Page(BaseHTTPRequestHandler):
    """`/` is the page, `/version` the state of the run. Nothing else is there, and nobody else is answered."""

    server: LivePage

    def do_GET(self) -> None:
        # A page of another origin, whose name was bound to this address, would send its own name.
        own = self.headers.get("Host", "") in (
            f"{n}:{self.server.server_port}" for n in ("127.0.0.1", "localhost")
        )
        answers: dict[str, Callable[[], bytes]] = {
            "/": self.server.page,
            "/version": lambda: self.server.version().encode(),
        }
        if not own or self.path not in answers:
            self.send_error(404)
            return
        try:
            body, status = answers[self.path](), 200
        except (KintsugiError, OSError) as error:  # a file may go while it is looked at
            body, status = str(error).encode(), 503
        kind = "text/html" if self.path == "/" and status == 200 else "text/plain"
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: a line for every look would bury the address."""
