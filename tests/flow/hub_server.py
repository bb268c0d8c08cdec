"""A Hub of our own on the loopback: enough of its protocol for huggingface_hub and datasets to push and to read."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "1" * 40
Files = dict[str, bytes]


@dataclass
class Hub:
    """`repos` maps `models/owner/name` or `datasets/owner/name` to files; `requests` are method, path and token."""

    address: str = ""
    repos: dict[str, Files] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    refuse: int = 0

    def split(self, path: str) -> tuple[str, str]:
        """(repository, the rest) of a path such as /datasets/acme/sums/resolve/main/a.json."""
        parts = unquote(path).strip("/").removeprefix("api/").split("/")
        kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
        return "/".join([kind, *parts[:2]]), "/".join(parts[2:])


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        self.hub.requests.append(("POST", path, self.headers.get("authorization")))
        if self.hub.refuse:
            return self.answer({"error": "no"}, self.hub.refuse)
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.hub.created.append(asked)
            name = f"{asked['organization']}/{asked['name']}"
            self.hub.repos.setdefault(f"models/{name}", {})
            return self.answer({"url": f"{self.hub.address}/{name}", "id": name})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        repo, rest = self.hub.split(path)
        if rest.startswith("preupload/"):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if rest.startswith("commit/"):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    self.hub.commits.append(value["summary"])
                elif line["key"] == "file":
                    self.hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
            url = f"{self.hub.address}/{repo.removeprefix('models/')}/commit/{COMMIT}"
            return self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
        if rest.startswith("paths-info/"):
            return self.answer(
                [self.entry(repo, name) for name in json.loads(body)["paths"] if self.has(repo, name)]
            )
        return self.answer({"error": "not found"}, 404)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("authorization")))
        repo, rest = self.hub.split(path)
        if repo not in self.hub.repos:
            return self.answer({"error": "no such repository"}, 404, code="RepoNotFound")
        what, _, tail = rest.partition("/")
        if what == "resolve":
            return self.file(repo, tail.partition("/")[2])
        if what == "tree":
            return self.answer([self.entry(repo, name) for name in self.hub.repos[repo]])
        if path.startswith("/api/") and what in ("", "revision"):
            siblings = [{"rfilename": name} for name in self.hub.repos[repo]]
            name = repo.partition("/")[2]
            return self.answer(
                {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            )
        return self.answer({"error": "not found"}, 404)

    do_HEAD = do_GET

    def has(self, repo: str, name: str) -> bool:
        return name in self.hub.repos[repo]

    def entry(self, repo: str, name: str) -> dict[str, Any]:
        content = self.hub.repos[repo][name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def file(self, repo: str, name: str) -> None:
        content = self.hub.repos[repo].get(name)
        if content is None:
            return self.answer({"error": "no such file"}, 404, code="EntryNotFound")
        asked = self.headers.get("range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            content = content[int(first) : int(last or len(content)) + 1]
        self.send_response(206 if asked else 200)
        self.send_header("etag", f'"{hashlib.sha1(self.hub.repos[repo][name]).hexdigest()}"')
        self.send_header("x-repo-commit", COMMIT)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def answer(self, value: Any, status: int = 200, code: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if code:
            self.send_header("x-error-code", code)
            self.send_header("x-error-message", value["error"])
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub that listens until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
