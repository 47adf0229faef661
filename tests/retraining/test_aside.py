"""Pairs that the drift check spoke against."""

from pathlib import Path

import pytest

from prefopt.data.pair_lists import read_pairs, write_pairs
from prefopt.errors import InputError
from prefopt.registry import Registry
from prefopt.retraining.aside import read_aside, set_aside
from tests.kit.nights import add


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def test_pairs_of_held_and_rejected_nights_stay_aside_until_they_are_released(registry: Registry) -> None:
    for number, (action, pairs) in enumerate([("hold", ["a", "b"]), ("nothing", None), ("reject", ["c"])], start=1):
        set_aside(registry, number, pairs)
        add(registry, action, None)
    history = registry.history()
    assert read_aside(registry, history, ()) == {"a", "b", "c"}
    assert read_aside(registry, history, (1,)) == {"c"}
    assert read_aside(registry, history, (1, 3)) == set()


def test_what_a_killed_attempt_left_counts_for_nothing(registry: Registry) -> None:
    set_aside(registry, 1, ["a"])
    assert read_aside(registry, registry.history(), ()) == set()
    set_aside(registry, 1, None)
    add(registry, "reject", None)
    assert read_aside(registry, registry.history(), ()) == set()
    set_aside(registry, 2, ["a"])
    add(registry, "promote", None)
    assert read_aside(registry, registry.history(), ()) == set()


def test_a_list_comes_back_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    listed = write_pairs(str(tmp_path), "fresh.txt", ["b", "a", "b"])
    assert listed.pairs == 2
    assert Path(listed.place).read_text() == "a\nb\n"
    assert read_pairs(listed.place, listed.sha256) == {"a", "b"}
    Path(listed.place).write_text("a\n")
    with pytest.raises(InputError, match=r"fresh\.txt has changed since the night was planned"):
        read_pairs(listed.place, listed.sha256)
    with pytest.raises(InputError, match="not there"):
        read_pairs(str(tmp_path / "other.txt"))
