"""Ten days of new preference data on the embedded world, a night of retraining after each, with everything that goes
wrong in between: benchmarks/nights.py in small."""

import hashlib
import itertools
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.nights import DAYS, Nights, Told, prepare
from prefopt.data.storage import Storage
from prefopt.registry import Champion, Record, check_champion
from prefopt.retraining.aside import read_aside
from prefopt.stages.keys import NIGHT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SMALL: dict[str, Any] = {
    "evaluate": {"samples_per_prompt": 2, "sampler": {"steps": 10, "guidance": 3.0, "resolution": 32}},
}
REWARDS = 4
"""That score's config names: each sees both images of a pair."""
TOLERANCE = 0.1
"""gate.slice_tolerance: how much a promotion may lose anywhere."""


class Played:
    """All nights, once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.nights: Nights = prepare(place, **SMALL)
        self.told: list[Told] = [self.nights.play(number, day) for number, day in enumerate(DAYS)]
        self.history: list[Record] = self.nights.registry.history()

    def day(self, event: str) -> Told:
        """What became of the first day of this kind."""
        return next(told for told in self.told if told.event == event)

    def stage(self, day: int, name: str) -> Path:
        """A stage's directory of a day's night."""
        (found,) = (self.place / "nights" / f"{day + 1:04d}" / name).iterdir()
        return found

    def rows(self, day: int, stage: str, kind: str) -> list[dict[str, Any]]:
        files = sorted(self.stage(day, stage).glob(f"{kind}*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("ten-days"))


def test_work_is_in_proportion_to_new_data(played: Played) -> None:
    assert [told.rewards for told in played.told] == [2 * REWARDS * day.pairs for day in DAYS]
    assert all(told.latents <= 2 * told.pairs for told in played.told)


def test_a_crash_before_any_stage_costs_nothing(played: Played) -> None:
    told = played.day("crashes before every stage")
    assert told.crashes == len(NIGHT)
    assert told.rewards == 2 * REWARDS * told.pairs
    assert [record.number for record in played.history] == list(range(1, len(DAYS) + 1))


def test_of_two_nights_at_once_one_is_told_of_the_other(played: Played) -> None:
    told = played.day("two nights at once")
    assert "prefopt retrain" in told.refused
    assert [record.number for record in played.history].count(told.day + 1) == 1


def test_a_day_without_data_changes_nothing(played: Played) -> None:
    told = played.day("no new data")
    assert (told.action, told.visits, told.latents) == ("nothing", 0, 0)
    assert told.champion == played.told[told.day - 1].champion


def test_flipped_labels_are_kept_from_the_champion(played: Played) -> None:
    told = played.day("40 % of labels flipped")
    record = played.history[told.day]
    assert record.action in ("reject", "hold")
    assert told.champion == played.told[told.day - 1].champion
    aside = read_aside(played.nights.registry, played.history, ())
    flipped = {row["pair_id"] for row in played.rows(told.day, "ingest", "pairs") if row["split"] == "train"}
    flipped -= {row["pair_id"] for row in played.rows(told.day - 1, "ingest", "pairs")}
    assert flipped
    assert flipped <= aside, "the drift check spoke, so no later night trains on them"
    later = {row["pair_id"] for day in (5, 9) for row in played.rows(day, "score", "visits")}
    assert not flipped & later


def test_withdrawn_pairs_leave_all_later_training(played: Played) -> None:
    told = played.day("a request to delete")
    withdrawn = set((played.place / "withdrawn.txt").read_text().split())
    assert len(withdrawn) == DAYS[told.day].withdrawn
    before = {row["pair_id"] for row in played.rows(0, "score", "visits")}
    assert withdrawn & before
    for day in (told.day, told.day + 1):
        assert not withdrawn & {row["pair_id"] for row in played.rows(day, "score", "visits")}
        assert withdrawn.isdisjoint(row["pair_id"] for row in played.rows(day, "ingest", "pairs"))
        refused = [row for row in played.rows(day, "ingest", "quarantine") if row["reason"] == "withdrawn"]
        assert len(refused) >= len(withdrawn), "each of their votes is counted"


def test_the_champion_never_loses_more_than_the_gate_tolerates(played: Played) -> None:
    rates = [told.win_rate["value"] for told in played.told if told.action == "promote"]
    assert rates
    assert rates[0] is not None
    assert rates[0] > 0.5
    for earlier, later in itertools.pairwise(rates):
        assert earlier is not None
        assert later is not None
        assert later > earlier - TOLERANCE


def test_the_history_tells_the_story(played: Played) -> None:
    assert [record.action for record in played.history] == [told.action for told in played.told]
    for told, record in zip(played.told, played.history, strict=True):
        assert record.reason.startswith(told.reason)
        judged = told.action != "nothing"
        assert (record.model is not None) == (judged and told.action != "hold")
        if record.decision:
            assert Path(record.decision).with_name("decision.html").exists()


def test_rollback_restores_the_former_champion_byte_for_byte(played: Played) -> None:
    registry = played.nights.registry
    first = registry.champion()
    assert first is not None
    former = files(first)
    other = next(record.model for record in played.history if record.model and record.model != first)
    registry.add(registry.history(), "promote", other, by="a person", reason="to be rolled back")
    assert registry.champion() == other
    registry.rollback(None, by="a person", reason="the former one was better", check=check_champion)
    assert registry.champion() == first
    assert files(first) == former


def files(champion: Champion) -> dict[str, str]:
    """sha256 of a champion's files."""
    place = Storage(champion.run).child(f"train/{champion.train[:12]}")
    return {name: hashlib.sha256(place.read_bytes(name)).hexdigest() for name in place.files("model")}
