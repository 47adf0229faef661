"""What earlier nights mean for the next one."""

from pathlib import Path

import pytest

from prefopt.errors import InputError
from prefopt.gate import level
from prefopt.registry import Champion, Registry
from prefopt.retraining.trail import read_trail
from tests.kit.nights import add, made_decision

MODEL = Champion(run="runs/a", train="a" * 64, digest="b" * 64)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def test_the_first_night_has_no_past(registry: Registry) -> None:
    trail = read_trail(registry.history())
    assert (trail.tests, trail.since_full, trail.audited) == ((), 0, (0, 0))
    assert trail.level(0.05) == level(1, [], 0.05)


def test_a_proposal_and_its_promotion_are_one_test(registry: Registry, tmp_path: Path) -> None:
    proposed = made_decision(tmp_path / "2")
    add(registry, "reject", MODEL, made_decision(tmp_path / "1", better=False))
    add(registry, "nothing", None)
    add(registry, "propose", MODEL, proposed)
    add(registry, "promote", MODEL, proposed)
    add(registry, "reject", MODEL, made_decision(tmp_path / "3", better=False))
    trail = read_trail(registry.history())
    assert trail.tests == (False, True, False)
    assert trail.level(0.05) == level(4, [2], 0.05)
    assert trail.since_full == 1


def test_a_model_from_the_base_begins_the_count_and_the_audit_anew(registry: Registry, tmp_path: Path) -> None:
    nights = [(True, (9, 9)), (False, (5, 3)), (False, (2, 4)), (True, (7, 7)), (False, (1, 0))]
    for number, (full, audit) in enumerate(nights):
        add(registry, "promote", MODEL, made_decision(tmp_path / str(number), full=full, audit=audit))
        if number == 2:
            trail = read_trail(registry.history())
            assert (trail.since_full, trail.audited) == (2, (7, 7))
    trail = read_trail(registry.history())
    assert (trail.since_full, trail.audited) == (1, (1, 0))


def test_a_lost_decision_is_named(registry: Registry, tmp_path: Path) -> None:
    place = made_decision(tmp_path / "1")
    add(registry, "promote", MODEL, place)
    Path(place).unlink()
    with pytest.raises(InputError, match=r"decision\.json is not there"):
        read_trail(registry.history())
