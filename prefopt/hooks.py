"""Commands and webhooks that are told how a night ended. What they do never changes the outcome."""

import json
import logging
import math
import numbers
import os
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from prefopt.config.hooks import Hook, HooksConfig, shown_webhook
from prefopt.data.post import SHOWN, NoAnswerError, post_json

Event = Literal["promoted", "rejected", "proposed", "held", "nothing", "failed"]
EVENT_VARIABLE = "PREFOPT_EVENT"
_logger = logging.getLogger(__name__)


def run_hooks(config: HooksConfig, event: Event, details: Mapping[str, Any]) -> list[str]:
    """Run the hooks of an event, one after the other; what went wrong, one line per hook, which is logged as well.

    Each gets one JSON object: `event`, `id` (the same for all hooks and tries, so that a repeated delivery can be
    known), `at` (ISO 8601, UTC) and `details`, in which numbers that are not finite are null and what JSON does not
    know is text.
    """
    hooks: tuple[Hook, ...] = getattr(config, event)
    if not hooks:
        return []
    told = {
        "event": event,
        "id": uuid.uuid4().hex,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "details": _plain(details),
    }
    body = (json.dumps(told, sort_keys=True, allow_nan=False) + "\n").encode()
    warnings = []
    for hook in hooks:
        problem = _run_command(hook, event, body) if hook.command else _call_webhook(hook, body)
        if problem:
            warnings.append(f"Hook on {event}: {problem}. The outcome stays as it is.")
            _logger.warning("%s", warnings[-1])
    return warnings


def _run_command(hook: Hook, event: Event, body: bytes) -> str | None:
    """What went wrong. Files in place of pipes: no child can fill or hold one."""
    assert hook.command
    name = hook.command[0]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(body)
        given.seek(0)
        try:
            process = subprocess.Popen(
                hook.command,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, EVENT_VARIABLE: event},
                start_new_session=True,
            )
        except OSError as error:
            return f"{name} cannot be started: {error.strerror}"
        try:
            code = process.wait(hook.timeout)
        except subprocess.TimeoutExpired:
            return f"{name} did not end within {hook.timeout:g} s and was killed"
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code == 0:
            return None
        said.seek(max(0, said.seek(0, os.SEEK_END) - SHOWN))
        words = " ".join(said.read().decode("utf-8", "replace").split())
    return f"{name} ended with {code}{f': {words}' if words else ''}"


def _call_webhook(hook: Hook, body: bytes) -> str | None:
    """What went wrong, without the URL's path, the token, and the answer, which may repeat them."""
    assert hook.webhook
    shown, headers = shown_webhook(hook.webhook), {}
    if hook.token_env is not None:
        token = os.environ.get(hook.token_env, "").strip()
        if not token or not token.isascii() or not token.isprintable():
            return f"{shown} was not called: the variable {hook.token_env} of the environment holds no usable token"
        headers = {"Authorization": f"Bearer {token}"}
    try:
        answer = post_json(
            hook.webhook, body, timeout=hook.timeout, retries=hook.retries, backoff=hook.backoff, headers=headers
        )
    except NoAnswerError as failure:
        return f"{shown} gave no answer in {hook.retries + 1} tries; the last: {failure.reason}"
    return None if 200 <= answer.status < 300 else f"{shown} answered with status {answer.status}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return str(value)
