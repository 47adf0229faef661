"""A POST over HTTP that ends in time, and is made again where that may help."""

import base64
import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

LONGEST_PAUSE = 30.0
ANSWER_BYTES = 1 << 20
SHOWN = 200
"""Characters of an answer that a message may hold."""
_TOO_MANY = 429


class NoAnswerError(Exception):
    """No usable answer after all tries: `reason` is the last failure in our words, the message has theirs as well."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(" ".join(f"{reason} {said}".split())[:SHOWN])
        self.reason = reason


@dataclass(frozen=True)
class Answer:
    """What came back, cut after ANSWER_BYTES + 1. Redirections are not followed."""

    status: int
    content: bytes

    @property
    def text(self) -> str:
        """The beginning, as a message may hold it."""
        return " ".join(self.content[:SHOWN].decode("utf-8", "replace").split())


def post_json(
    url: str, body: bytes, *, timeout: float, retries: int, backoff: float, headers: Mapping[str, str] | None = None
) -> Answer:
    """The answer to a POST of JSON. A user and password in the URL are sent as basic authentication.

    It is made again after a failed connection, no whole answer within `timeout` seconds, status 429 or 5xx; before
    that it waits for `backoff` seconds, doubled each time, LONGEST_PAUSE at most. Raises NoAnswerError after the last.
    """
    sent = {**_headers(url), **(headers or {})}
    for attempt in range(retries):
        with contextlib.suppress(NoAnswerError):
            return _ask(url, body, sent, timeout)
        time.sleep(min(LONGEST_PAUSE, backoff * 2**attempt))
    return _ask(url, body, sent, timeout)


def _ask(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
    connection = _connection(url, timeout)
    clock = _Clock(timeout, connection)
    late = NoAnswerError(f"no whole answer within {timeout:g} s")
    try:
        connection.connect()
        clock.watch(connection.sock)
        connection.request("POST", _target(url), body, headers)
        response = connection.getresponse()
        content = response.read(ANSWER_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        if clock.is_up or isinstance(error, TimeoutError):
            raise late from None
        if isinstance(error, OSError):
            raise NoAnswerError(f"{type(error).__name__}: {error}") from None
        raise NoAnswerError(f"{type(error).__name__}:", str(error)) from None
    finally:
        clock.stop()
        connection.close()
    if clock.is_up:
        raise late
    answer = Answer(response.status, content)
    if answer.status == _TOO_MANY or answer.status >= 500:
        raise NoAnswerError(f"status {answer.status}", answer.text)
    return answer


def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname
    if parts.scheme == "https":
        trusted = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=trusted)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _headers(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if parts.username is not None or parts.password is not None:
        known = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(known.encode()).decode()}"
    return headers


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
