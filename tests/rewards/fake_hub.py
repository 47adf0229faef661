"""A hub on this machine that serves the files of one repository at one commit."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def fake_hub(repository: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the names of the files that were asked for, as they are asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            api, resolve = f"/api/models/{repository}", f"/{repository}/resolve/{COMMIT}/"
            if path.startswith(f"{api}/tree/"):
                rows = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
                return self._answer(json.dumps(rows).encode())
            if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                row = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                return self._answer(json.dumps(row).encode())
            name = path.removeprefix(resolve)
            if path.startswith(resolve) and name in files:
                if self.command == "GET":
                    asked.append(name)
                return self._answer(files[name])
            return self._answer(b'{"error": "not found"}', status=404)

        def _answer(self, data: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
