"""A reward model behind HTTP: POST {"images": [base64 of PNG], "prompts": [...]}, answer {"scores": [numbers]}.

The answer may also hold "version", which must then be the configured one.
"""

import base64
import contextlib
import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from prefopt.config.rewards import HttpModel, shown_url
from prefopt.errors import RewardError
from prefopt.rewards.base import RewardSpec, UnscorableImageError

VERSION = 1
LONGEST_PAUSE = 30.0
ANSWER_BYTES = 1 << 20
_SHOWN = 200
_AGAIN = 429


class _PassingError(Exception):
    """A failure that another try may mend."""


def http_spec(name: str, model: HttpModel) -> RewardSpec:
    """The reward at a URL. Nothing is asked yet."""
    return RewardSpec(name, version=f"http {VERSION} {model.version}", load=_Load(name, model))


@dataclass(frozen=True)
class _Load:
    name: str
    model: HttpModel

    def __call__(self) -> "HttpReward":
        return HttpReward(self.name, self.model)


class HttpReward:
    """Higher is better. Raises RewardError, without the URL's secrets, when the endpoint gives no usable answer."""

    def __init__(self, name: str, model: HttpModel) -> None:
        self.name = name
        self._model = model
        self._shown = shown_url(model.url)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """float32 [n], in requests of at most `batch` images and `request_mb`."""
        scores: list[float] = []
        for body, count in self._requests([_png(image) for image in images], prompts):
            scores += self._numbers(self._answer(body), count)
        return np.asarray(scores, dtype=np.float32)

    def _requests(self, pngs: Sequence[str], prompts: Sequence[str]) -> Iterator[tuple[bytes, int]]:
        limit, start = int(self._model.request_mb * 1e6), 0
        while start < len(pngs):
            stop = min(start + self._model.batch, len(pngs))
            body = _body(pngs[start:stop], prompts[start:stop])
            while len(body) > limit and stop - start > 1:
                stop = start + (stop - start) // 2
                body = _body(pngs[start:stop], prompts[start:stop])
            if len(body) > limit:
                size = f"{len(body) / 1e6:.3g} MB, above request_mb ({self._model.request_mb:g})"
                raise UnscorableImageError(start, f"as PNG it makes a request of {size}")
            yield body, stop - start
            start = stop

    def _answer(self, body: bytes) -> bytes:
        for attempt in range(self._model.retries + 1):
            try:
                return self._ask(body)
            except _PassingError as failure:
                reason = str(failure)
            if attempt < self._model.retries:
                time.sleep(min(LONGEST_PAUSE, self._model.backoff * 2**attempt))
        tries = self._model.retries + 1
        raise RewardError(
            f"Reward model {self.name!r} at {self._shown} gave no answer in {tries} {'try' if tries == 1 else 'tries'};"
            f" the last: {reason}. See whether it runs, or raise timeout, retries or backoff of"
            f" rewards.models.{self.name}. Finished work is kept: run the same command again."
        )

    def _ask(self, body: bytes) -> bytes:
        connection = self._connection()
        clock = _Clock(self._model.timeout, connection)
        try:
            connection.connect()
            clock.watch(connection.sock)
            connection.request("POST", self._target(), body, self._headers())
            response = connection.getresponse()
            content = response.read(ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            if clock.is_up or isinstance(error, TimeoutError):
                raise self._too_late() from None
            raise _PassingError(" ".join(f"{type(error).__name__}: {error}".split())[:_SHOWN]) from None
        finally:
            clock.stop()
            connection.close()
        if clock.is_up:
            raise self._too_late()
        if response.status == _AGAIN or response.status >= 500:
            raise _PassingError(f"status {response.status} {_text(content)}".strip())
        if response.status != 200:
            raise self._refused(f"answered with status {response.status} {_text(content)}".strip())
        if len(content) > ANSWER_BYTES:
            raise self._refused(f"answered with more than {ANSWER_BYTES} bytes")
        return content

    def _numbers(self, content: bytes, count: int) -> list[float]:
        try:
            answer: Any = json.loads(content)
        except (ValueError, RecursionError):
            raise self._refused(f"did not answer with JSON: {_text(content)}") from None
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(scores, list) or not all(
            isinstance(x, int | float) and not isinstance(x, bool) for x in scores
        ):
            raise self._refused(f'did not answer with {{"scores": [numbers]}}: {_text(content)}')
        if len(scores) != count:
            raise self._refused(f"answered with {len(scores)} scores for {count} images")
        version = answer.get("version", self._model.version)
        if version != self._model.version:
            raise self._refused(
                f"is version {str(version)[:_SHOWN]!r} and not {self._model.version!r} as in the config: scores of the"
                " two must not be mixed"
            )
        return scores

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._model.url)
        assert parts.hostname
        if parts.scheme == "https":
            trusted = ssl.create_default_context()
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self._model.timeout, context=trusted)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._model.timeout)

    def _target(self) -> str:
        parts = urlsplit(self._model.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _headers(self) -> dict[str, str]:
        parts = urlsplit(self._model.url)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if parts.username is not None or parts.password is not None:
            known = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(known.encode()).decode()}"
        return headers

    def _too_late(self) -> _PassingError:
        return _PassingError(f"no whole answer within {self._model.timeout:g} s")

    def _refused(self, what: str) -> RewardError:
        return RewardError(
            f"Reward model {self.name!r} at {self._shown} {what}. Mend the endpoint, or leave it out of the config."
        )


class _Clock:
    """Ends a connection's waiting when time is up, even if the other side sends a byte now and then."""

    def __init__(self, seconds: float, connection: http.client.HTTPConnection) -> None:
        self.is_up = False
        self._connection = connection
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        """Take note of the socket, which the connection hands over to its response."""
        self._socket = connected

    def stop(self) -> None:
        """No end any more."""
        self._timer.cancel()

    def _end(self) -> None:
        self.is_up = True
        waiting = self._socket or self._connection.sock
        if waiting is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                waiting.shutdown(socket.SHUT_RDWR)


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _body(pngs: Sequence[str], prompts: Sequence[str]) -> bytes:
    return json.dumps({"images": list(pngs), "prompts": list(prompts)}).encode()


def _text(content: bytes) -> str:
    return " ".join(content[:_SHOWN].decode("utf-8", "replace").split())
