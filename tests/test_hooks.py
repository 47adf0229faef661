"""Commands and webhooks are told how a night ended, and nothing that they do changes it."""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from prefopt.config.hooks import HooksConfig
from prefopt.hooks import run_hooks
from tests.rewards.endpoint import Behaviour, answer, endpoint, hang

WRITE = "import os, sys; open(sys.argv[1], 'a').write(os.environ['PREFOPT_EVENT'] + ' ' + sys.stdin.read())"
TOKEN = "s3cret-token"


def hooks(*promoted: dict[str, Any]) -> HooksConfig:
    return HooksConfig.model_validate({"promoted": list(promoted)})


def python(code: str, *arguments: str) -> dict[str, Any]:
    return {"command": [sys.executable, "-c", code, *arguments]}


def webhook(url: str, **settings: Any) -> dict[str, Any]:
    return {"webhook": url, "backoff": 0.01, "timeout": 10.0, **settings}


def status(code: int) -> Behaviour:
    return lambda handler, _: answer(handler, {"said": f"no {TOKEN}"}, code)


def test_a_command_gets_the_event_and_no_shell_reads_its_arguments(tmp_path: Path) -> None:
    told = tmp_path / "told; $(false)"
    hook = python(WRITE, str(told))
    details = {"model": "runs/a", "gain": 0.1, "p": float("nan"), "by": (np.int64(1), np.float32(0.5))}
    assert run_hooks(hooks(hook), "promoted", details) == []
    event, _, text = told.read_text().partition(" ")
    assert event == "promoted"
    body = json.loads(text)
    assert body.keys() == {"event", "id", "at", "details"}
    assert body["event"] == "promoted"
    assert body["details"] == {"model": "runs/a", "gain": 0.1, "p": None, "by": [1, 0.5]}


def test_hooks_of_other_events_are_not_run(tmp_path: Path) -> None:
    config = HooksConfig.model_validate({"failed": [python(WRITE, str(tmp_path / "told"))]})
    assert run_hooks(config, "promoted", {}) == []
    assert not (tmp_path / "told").exists()
    run_hooks(config, "failed", {"place": tmp_path})
    assert json.loads((tmp_path / "told").read_text().partition(" ")[2])["details"] == {"place": str(tmp_path)}


def test_a_failing_command_is_a_warning_and_the_next_hook_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = tmp_path / "told"
    warnings = run_hooks(
        hooks(
            python("import sys; sys.exit('no room')"),
            {"command": [str(tmp_path / "missing")]},
            python("import os; os.kill(os.getpid(), 9)"),
            python(WRITE, str(told)),
        ),
        "promoted",
        {},
    )
    assert [line.partition(": ")[0] for line in warnings] == ["Hook on promoted"] * 3
    assert "ended with 1: no room" in warnings[0]
    assert "cannot be started: No such file" in warnings[1]
    assert "ended with -9" in warnings[2]
    assert told.exists()
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == warnings


def test_a_command_that_hangs_is_killed_with_its_children() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)'])"
    began = time.monotonic()
    (warning,) = run_hooks(hooks({**python(child), "timeout": 1.0}), "promoted", {})
    assert "did not end within 1 s and was killed" in warning
    assert time.monotonic() - began < 100


def test_a_command_need_not_read_and_may_say_much() -> None:
    assert run_hooks(hooks(python("print('x' * 10**6)")), "promoted", {"much": "y" * 10**6}) == []


def test_a_webhook_gets_the_event_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", f"{TOKEN}\n")
    with endpoint(status(204)) as seen:
        hook = webhook(f"{seen.url}?room=1", token_env="HOOK_TOKEN")
        assert run_hooks(hooks(hook), "promoted", {"model": "runs/a"}) == []
    assert seen.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert seen.headers[0]["Content-Type"] == "application/json"
    assert seen.requests[0]["details"] == {"model": "runs/a"}
    assert seen.paths == ["/score?room=1"]


def test_a_webhook_is_called_again_with_the_same_id() -> None:
    with endpoint(status(503), hang, status(429), status(200)) as seen:
        assert run_hooks(hooks(webhook(seen.url, timeout=2.0)), "promoted", {}) == []
    assert len(seen.requests) == 4
    assert len({request["id"] for request in seen.requests}) == 1


@pytest.mark.parametrize(
    ("code", "calls", "words"), [(404, 1, "status 404"), (500, 3, "3 tries; the last: status 500")]
)
def test_a_failing_webhook_is_a_warning_without_secrets(
    code: int, calls: int, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    with endpoint(*[status(code)] * 3) as seen:
        hook = webhook(f"{seen.url}/hidden-path?key=hidden", token_env="HOOK_TOKEN", retries=2)
        (warning,) = run_hooks(hooks(hook), "promoted", {})
    assert len(seen.requests) == calls
    assert words in warning
    assert f"http://127.0.0.1:{seen.port}/***" in warning
    for secret in (TOKEN, "hidden"):
        assert secret not in warning
        assert secret not in caplog.text


def test_a_redirection_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    with endpoint(status(302)) as seen:
        (warning,) = run_hooks(hooks(webhook(seen.url, token_env="HOOK_TOKEN")), "promoted", {})
    assert "status 302" in warning


def test_nobody_there_and_no_token_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    with endpoint() as seen:
        gone = seen.url
    (warning,) = run_hooks(hooks(webhook(gone, retries=1)), "promoted", {})
    assert "no answer in 2 tries" in warning
    assert "refused" in warning
    for value in (None, "", "two\nlines", "caf\u00e9"):
        monkeypatch.delenv("HOOK_TOKEN", raising=False)
        if value is not None:
            monkeypatch.setenv("HOOK_TOKEN", value)
        (warning,) = run_hooks(hooks(webhook(gone, token_env="HOOK_TOKEN")), "promoted", {})
        assert warning.endswith("HOOK_TOKEN of the environment holds no usable token. The outcome stays as it is.")


def test_a_config_keeps_the_secrets_of_its_webhooks_and_is_read_back() -> None:
    python_hook = hooks(python("pass"))
    config = hooks(webhook("https://hooks.example/services/hidden?key=hidden"))
    assert HooksConfig.model_validate(python_hook.model_dump(mode="json")) == python_hook
    assert "hidden" not in repr(config)
    assert "hidden" not in config.model_dump_json()
    assert config.promoted[0].webhook == "https://hooks.example/services/hidden?key=hidden"
    assert config.model_dump(mode="json")["promoted"][0]["webhook"] == "https://hooks.example/***"


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ({}, "either command"),
        ({"command": ["x"], "webhook": "http://x"}, "either command"),
        ({"command": []}, "at least 1 item"),
        ({"command": [""]}, "names no program"),
        ({"command": ["x", "a\0b"]}, "match pattern"),
        ({"command": "echo x"}, "valid tuple"),
        ({"command": ["x"], "retries": 2}, "retries: for webhooks alone"),
        ({"webhook": "ftp://x"}, "http://host"),
        ({"webhook": "http://x/ y"}, "space"),
        ({"webhook": "http://u:p@x", "token_env": "T"}, "either a user"),
        ({"webhook": "http://x", "token_env": "a b"}, "match pattern"),
        ({"webhook": "http://x", "tokens": "T"}, "Extra inputs"),
    ],
)
def test_a_hook_that_cannot_work_is_refused(hook: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        hooks(hook)
