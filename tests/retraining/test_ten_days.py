"""Ten days of new data, each with its night: what goes wrong in production goes wrong here."""

import itertools
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.nights import DAYS, Day, Nights, Told, play, prepare
from prefopt.registry import check_champion
from prefopt.registry.registry import succession
from prefopt.stages.keys import NIGHT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.usefixtures("ray_session")]

SMALL = {
    "train": {"steps": 16, "global_batch": 16, "micro_batch": 8, "optimizer": {"lr": 2.0e-4}},
    "evaluate": {"samples_per_prompt": 2, "sampler": {"steps": 8, "guidance": 3.0, "resolution": 32}},
    "retrain": {"min_pairs": 10},
    "gate": {"slice_prompts": 200},
}
REWARDS = 4
"""That score: alpha's, and three of the panel."""


@pytest.fixture(scope="module")
def days() -> list[Day]:
    sizes = [min(day.pairs, 100 if number == 0 else 40) for number, day in enumerate(DAYS)]
    return [Day(**{**vars(day), "pairs": pairs}) for day, pairs in zip(DAYS, sizes, strict=True)]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return prepare(tmp_path_factory.mktemp("ten-days"), lambda: None, **SMALL)


@pytest.fixture(scope="module")
def told(nights: Nights, days: list[Day], ray_session: None) -> list[Told]:
    return play(nights, days)


def test_every_day_has_one_record_and_the_history_tells_the_story(nights: Nights, told: list[Told]) -> None:
    history = nights.registry.history()
    assert [record.action for record in history] == [day.action for day in told]
    assert told[0].action == "promote"
    assert [day.action for day in told if day.event == "no new data"] == ["nothing"]
    for record, day in zip(history, told, strict=True):
        assert record.seen is not None
        if day.win_rate:
            assert record.decision is not None
            assert json.loads(Path(record.decision).read_bytes())["number"] == record.number
    for champion in succession(history):
        check_champion(champion)


def test_work_is_proportional_to_what_is_new(told: list[Told]) -> None:
    for day in told:
        assert 0.9 * 2 * day.pairs * REWARDS <= day.rewards <= 2 * day.pairs * REWARDS
    usual = [day.visits for day in told[1:] if day.visits]
    assert max(usual) < told[0].visits


def test_a_crash_before_any_stage_costs_nothing_that_was_done(told: list[Told]) -> None:
    (day,) = [day for day in told if day.crashes]
    assert day.crashes == len(NIGHT)
    assert day.win_rate


def test_of_two_nights_at_once_one_says_that_the_other_is_at_work(told: list[Told]) -> None:
    (day,) = [day for day in told if day.refused]
    assert day.event == "two nights at once"
    assert "prefopt retrain" in day.refused


def test_no_champion_is_worse_than_the_one_before_it(nights: Nights, told: list[Told]) -> None:
    """By its own win rate over the champion, which the gate has tested, and by that over the base, up to the gate's
    tolerance."""
    rates = [day.win_rate["value"] for day in told if day.action == "promote"]
    for before, after in itertools.pairwise(rates):
        assert before is not None
        assert after is not None
        assert after >= before - 0.1
    bad = next(day for day in told if day.event.startswith("40 %"))
    assert bad.action in ("reject", "promote")


def test_withdrawn_pairs_leave_all_later_training(nights: Nights, told: list[Told], days: list[Day]) -> None:
    number = next(place for place, day in enumerate(days) if day.withdrawn) + 1
    history = nights.registry.history()
    withdrawn = set((Path(nights.registry.uri).parent / "withdrawn.txt").read_text().split())
    assert len(withdrawn) == 20
    for record in history[number - 1 :]:
        run = Path(nights.registry.uri).parent / "nights" / f"{record.number:04d}"
        found = json.loads((run / "run.json").read_text())
        ingest, score = run / "ingest" / found["ingest"][:12], run / "score" / found["score"][:12]
        assert json.loads((ingest / "manifest.json").read_text())["summary"]["quarantined_withdrawn"] >= 20
        for folder, pattern in ((ingest, "pairs-*.parquet"), (ingest, "votes-*.parquet"), (score, "visits-*.parquet")):
            for file in folder.glob(pattern):
                assert not withdrawn & set(pq.read_table(file, columns=["pair_id"])["pair_id"].to_pylist())


def test_the_former_champion_comes_back_byte_for_byte(nights: Nights, told: list[Told]) -> None:
    reign = succession(nights.registry.history())
    if len(reign) < 2:
        pytest.skip("only the first night's challenger was promoted")
    nights.registry.rollback(None, by="ann", reason="test")
    assert nights.registry.champion() == reign[-2]
    assert check_champion(reign[-2]).exists("model_index.json")
