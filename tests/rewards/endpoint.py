"""A reward endpoint on this machine that behaves as told."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

Behaviour = Callable[[BaseHTTPRequestHandler, dict[str, Any]], bool]
"""Answers a request itself, and says whether it did."""


@dataclass
class Endpoint:
    """What was asked of it."""

    port: int
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/score"


def redness(images: list[str], prompts: list[str]) -> list[float]:
    """The mean red of each PNG plus the length of its prompt."""
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(image)))) for image in images]
    return [float(pixels[..., 0].mean()) + len(prompt) for pixels, prompt in zip(decoded, prompts, strict=True)]


def answer(handler: BaseHTTPRequestHandler, content: Any, status: int = 200) -> bool:
    """Send JSON, or bytes as they are."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
    return True


def drip(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> bool:
    """A whole answer, a byte at a time, that takes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)
    return True


def hang(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> bool:
    """No answer for long."""
    time.sleep(5.0)
    return True


@contextmanager
def endpoint(*behaviours: Behaviour) -> Iterator[Endpoint]:
    """A server whose first requests are met by these in turn, the rest by `redness`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request, number = json.loads(body), len(seen.requests)
            seen.requests.append(request)
            seen.headers.append(dict(self.headers))
            seen.bodies.append(len(body))
            seen.paths.append(self.path)
            try:
                if number < len(behaviours) and behaviours[number](self, request):
                    return
                answer(self, {"scores": redness(request["images"], request["prompts"])})
            except (BrokenPipeError, ConnectionResetError):
                return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    seen = Endpoint(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.socket.close()
        thread.join()
