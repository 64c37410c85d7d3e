"""As much of the hub's protocol as a push needs, on this machine."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """What was pushed.

    Attributes:
        repos: Files by name, by kind and name of the repository.
        private: Whether nobody else sees a repository.
        tokens: Who commits said they come from.
        refuses: A status and a message to answer all that changes something with.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens: set[str | None] = set()
        self.refuses: tuple[int, str] | None = None
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        match path.strip("/").split("/"):
            case ["api", "repos", "create"]:
                if self.refuses:
                    return self.refuses[0], {"error": self.refuses[1]}
                made = json.loads(body)
                kind = made.get("type") or "model"
                name = f"{kind}s/{made['organization']}/{made['name']}"
                url = f"{self.url}/{name.removeprefix('models/')}"
                if name in self.repos:
                    return 409, {"error": "You already created this repo", "url": url}
                self.repos[name] = {}
                self.private[name] = made.get("private") or made.get("visibility") == "private"
                return 200, {"url": url, "name": name}
            case ["api", "validate-yaml"]:
                return 200, {"errors": [], "warnings": []}
            case ["api", kind, owner, repo] if method == "GET":
                name = f"{kind}/{owner}/{repo}"
                if name not in self.repos:
                    return 404, {"error": "Repository not found"}
                return 200, {
                    "id": f"{owner}/{repo}",
                    "private": self.private[name],
                    "sha": "0" * 40,
                    "siblings": [],
                    "tags": [],
                }
            case ["api", _, _, _, "preupload", "main"]:
                files = json.loads(body)["files"]
                return 200, {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "regular",
                            "shouldIgnore": False,
                            "oid": None,
                        }
                        for file in files
                    ]
                }
            case ["api", kind, owner, repo, "commit", "main"]:
                for line in body.splitlines():
                    row = json.loads(line)
                    if row["key"] == "file":
                        content = base64.b64decode(row["value"]["content"])
                        self.repos[f"{kind}/{owner}/{repo}"][row["value"]["path"]] = content
                return 200, {
                    "success": True,
                    "commitOid": "1" * 40,
                    "commitUrl": f"{self.url}/{owner}/{repo}/commit/{'1' * 40}",
                }
        return 404, {"error": f"no {method} {path}"}


@contextmanager
def served() -> Iterator[Hub]:
    """A hub that answers on a free port."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "/commit/" in self.path:
                hub.tokens.add(self.headers.get("Authorization"))
            status, content = hub.answer(self.command, self.path.partition("?")[0], body)
            written = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        do_GET = do_POST = _answer

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
