"""A named person accepts a proposal."""

from pathlib import Path

import pytest

from prefopt.errors import InputError
from prefopt.registry import Registry
from prefopt.retraining import promote_proposal
from tests.kit.nights import add, made_champion, made_decision


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def test_the_last_proposal_becomes_the_champion(registry: Registry, tmp_path: Path) -> None:
    first, second = (made_champion(tmp_path / name) for name in "ab")
    decisions = [made_decision(tmp_path / f"decision {name}") for name in "ab"]
    add(registry, "propose", first, decisions[0])
    add(registry, "propose", second, decisions[1])
    record = promote_proposal(registry, None, by="ann", reason="looks good")
    assert (record.action, record.model, record.by, record.decision) == ("promote", second, "ann", decisions[1])
    assert registry.champion() == second


def test_a_proposal_can_be_named(registry: Registry, tmp_path: Path) -> None:
    first, second = (made_champion(tmp_path / name) for name in "ab")
    add(registry, "propose", first)
    add(registry, "propose", second)
    promote_proposal(registry, 1, by="ann", reason="")
    assert registry.champion() == first
    with pytest.raises(InputError, match="record 3 is no proposal"):
        promote_proposal(registry, 3, by="ann", reason="")


def test_what_was_better_than_a_former_champion_is_not_promoted(registry: Registry, tmp_path: Path) -> None:
    first, second = (made_champion(tmp_path / name) for name in "ab")
    add(registry, "propose", first)
    add(registry, "promote", second)
    with pytest.raises(InputError, match=r"champion has changed since record 1 .* promote of record 2"):
        promote_proposal(registry, None, by="ann", reason="")
    assert registry.champion() == second


def test_a_proposal_whose_files_have_changed_is_refused(registry: Registry, tmp_path: Path) -> None:
    made = made_champion(tmp_path / "a")
    add(registry, "propose", made)
    weights = next((tmp_path / "a").rglob("*.safetensors"))
    weights.write_bytes(b"WEIGHTS")
    with pytest.raises(InputError, match="not what was promoted"):
        promote_proposal(registry, None, by="ann", reason="")
    assert registry.champion() is None
    with pytest.raises(InputError, match="there is no proposal"):
        promote_proposal(Registry(str(tmp_path / "other")), None, by="ann", reason="")
