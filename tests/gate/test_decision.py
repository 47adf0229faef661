"""The decision record and its page."""

import json
from pathlib import Path
from typing import Any

import pytest

from prefopt.config.gate import AuditConfig
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.gate import DECISION, Check, Decision, read_decision
from prefopt.gate.decision import audit_of, encoded, verdict_of
from prefopt.gate.page import render_html, sentence

MAIN = Check(
    name="win_rate",
    of="world/true",
    answer="passed",
    value=0.75,
    low=0.6,
    high=0.85,
    bound=0.5,
    prompts=40,
    p=0.001,
    level=0.01,
)
GROUP = Check(
    name="group", of="careless <b>", answer="failed", value=-0.125, low=-0.3, high=0.01, bound=-0.05, prompts=30
)


def made(*checks: Check, **fields: Any) -> Decision:
    given: dict[str, Any] = {
        "number": 3,
        "after": "a" * 64,
        "champion": "b" * 64,
        "challenger": "c" * 64,
        "full": False,
        "verdict": verdict_of(checks),
        "checks": list(checks),
        "audit": None,
        "drift": ["Train: nothing speaks against it."],
        "keys": {"evaluate": "d" * 64},
    }
    return Decision(**{**given, **fields})


def test_one_failed_check_decides_and_what_was_not_judged_does_not() -> None:
    unsure = GROUP.model_copy(update={"answer": "not_judged"})
    assert made(MAIN, unsure).verdict == "better"
    assert made(MAIN, GROUP).verdict == "not_better"
    assert made(MAIN, GROUP).failed == [GROUP]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    decision, storage = made(MAIN, GROUP), Storage(str(tmp_path))
    storage.write_bytes(DECISION, encoded(decision))
    assert read_decision(storage) == decision


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged"),
        (b'{"schema_version": 2}', "schema_version 2"),
        (b"{}", "is damaged: Field required"),
        (None, "is not there"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / DECISION).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_decision(Storage(str(tmp_path)))
    assert DECISION in str(caught.value)


def test_an_audit_objects_once_all_promotions_together_lose() -> None:
    config = AuditConfig(reward="r", prompt_set="s", tolerance=0.05)
    assert not audit_of(config, 40, 60, (60, 40)).objects
    assert audit_of(config, 20, 60, (60, 60)).objects
    assert not audit_of(config, 0, 0, (0, 0)).objects
    held = made(MAIN, audit=audit_of(config, 20, 60, (60, 60)))
    assert held.needs_person
    assert "the audit speaks against it" in sentence(held)


def test_the_page_says_what_was_decided_and_why_and_is_the_same_every_time() -> None:
    decision = made(MAIN, GROUP)
    page = render_html(decision)
    assert "not shown to be better. What failed: agrees with the group (careless &lt;b&gt;)" in page
    assert "<b>" not in page
    assert "\N{MINUS SIGN}12.5%" in page
    assert "b" * 64 in page
    assert render_html(Decision.model_validate(json.loads(encoded(decision)))) == page
    assert "wins 75.0% of comparisons with the champion" in sentence(decision)
    first = made(MAIN, champion=None)
    assert "it is better" in sentence(first)
    assert "comparisons with the base" in sentence(first)
    assert "none yet: the base stands in its place" in render_html(first)
