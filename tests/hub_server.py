"""A hub on loopback, for tests: what huggingface_hub asks of the real one, over a folder."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repositories are folders `user/name` of `root`. `stranger`'s may be read and not changed."""

    root: Path
    asked: list[str]
    after_commit: Callable[[Path], None]

    def log_message(self, *arguments: Any) -> None:
        """Prints nothing."""

    def _send(self, status: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, code: str) -> None:
        self._send(404, {"error": "not found"}, X_Error_Code=code)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            request = json.loads(body)
            name = "/".join(filter(None, (request.get("organization"), request["name"])))
            self.asked.append(f"create {name} {request.get('private', request.get('visibility'))}")
            (self.root / name).mkdir(parents=True, exist_ok=True)
            self._send(200, {"url": f"http://{self.headers['Host']}/{name}"})
            return
        repo, what = self.root / parts[2] / parts[3], parts[4]
        if parts[2] == "stranger":
            self._send(403, {"error": "Forbidden: write access is denied"})
        elif what == "branch":
            self._send(200, {})
        elif what == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self._send(200, {"files": files})
        elif what == "commit":
            self._commit(repo, [json.loads(line) for line in body.splitlines()])
        elif what == "paths-info":
            request = json.loads(body)
            self._send(
                200,
                [
                    self._entry(repo, repo / path)
                    for path in request["paths"]
                    if (repo / path).exists()
                ],
            )
        else:
            self._missing("Unknown")

    def _commit(self, repo: Path, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            path = repo / line["value"].get("path", "")
            if line["key"] == "file":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(line["value"]["content"]))
            elif line["key"] == "deletedFolder":
                shutil.rmtree(path)
            elif line["key"] == "deletedFile":
                path.unlink()
        type(self).after_commit(repo)
        self._send(
            200,
            {
                "commitUrl": f"http://{self.headers['Host']}/{repo.parent.name}/"
                f"{repo.name}/commit/{COMMIT}",
                "commitOid": COMMIT,
            },
        )

    def do_DELETE(self) -> None:
        self._send(200, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if len(parts) < 4 or parts[-1] == "refs":  # what the client asks on its own behalf
            self._send(200, {"branches": [], "converts": [], "tags": []})
            return
        if parts[0] == "api":
            repo = self.root / parts[2] / parts[3]
            if not repo.is_dir():
                self._missing("RepoNotFound")
            elif len(parts) == 4 or parts[4] == "revision":
                self._send(200, {"id": f"{parts[2]}/{parts[3]}", "sha": COMMIT, "siblings": []})
            elif parts[4] == "tree":
                folder = repo.joinpath(*parts[6:])
                if folder.is_dir():
                    self._send(200, [self._entry(repo, path) for path in folder.iterdir()])
                else:
                    self._missing("EntryNotFound")
            return
        path = self.root / parts[0] / parts[1] / "/".join(parts[4:])
        if not path.is_file():
            self._missing("EntryNotFound")
            return
        self._send(
            200, path.read_bytes(), ETag=f'"{path.stat().st_mtime_ns}"', X_Repo_Commit=COMMIT
        )

    def _entry(self, repo: Path, path: Path) -> dict[str, Any]:
        kind = "directory" if path.is_dir() else "file"
        size = 0 if path.is_dir() else path.stat().st_size
        return {"type": kind, "oid": COMMIT, "size": size, "path": str(path.relative_to(repo))}


@contextmanager
def hub_server(root: Path, after_commit: Callable[[Path], None]) -> Iterator[tuple[str, list[str]]]:
    """Starts a hub; yields its URL and the repositories that were made.

    Args:
        after_commit: is called with the folder of a repository after each of its commits.
    """
    asked: list[str] = []
    kept = {"root": root, "asked": asked, "after_commit": staticmethod(after_commit)}
    handler = type("Here", (Hub,), kept)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
