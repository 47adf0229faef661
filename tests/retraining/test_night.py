"""Nights that end before anything is trained."""

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prefopt.errors import InputError
from prefopt.registry import LockedError, Registry, Watermark, retraining_lock
from prefopt.retraining import Night
from prefopt.stages.chain import StageOutcome
from tests.kit.data import distinct, quiet, small_config, write_parquet
from tests.kit.nights import add, made_champion

NOTE = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write(sys.stdin.read())"


class Watcher:
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.skipped: list[bool] = []
        self.progress = quiet

    def begin(self, stage: str) -> None:
        self.begun.append(stage)

    def end(self, outcome: StageOutcome) -> None:
        self.skipped.append(outcome.skipped)


class Place:
    """Ten pairs, and a config that wants more."""

    def __init__(self, path: Path) -> None:
        self.path, self.watcher = path, Watcher()
        write_parquet(path / "data" / "part-0.parquet", distinct(10))
        told = {"command": [sys.executable, "-c", NOTE, str(path / "told")]}
        hooks = {event: [told] for event in ("nothing", "failed", "promoted")}
        retrain: dict[str, Any] = {"min_pairs": 100, "hooks": hooks}
        source = {"kind": "pickapic", "path": str(path / "data")}
        self.config = small_config(path, [source], retrain=retrain)
        self.registry = Registry(str(path / "nights" / "registry"))

    def night(self) -> Night:
        return Night(self.config, str(self.path / "nights"), start_engine=lambda: None, watcher=self.watcher)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "told").read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_too_little_new_data_is_nothing_to_do_and_is_said_once(place: Place) -> None:
    first = place.night().run()
    assert (first.action, place.watcher.begun) == ("nothing", ["ingest"])
    assert "retrain.min_pairs is 100: nothing to do" in first.reason
    assert first.record is not None
    assert first.record.seen is not None
    assert (first.record.seen.votes, first.record.seen.newest) == (10, "2024-01-01T00:00:09+00:00")
    again = place.night().run()
    assert (again.action, again.record) == ("nothing", None)
    assert len(place.registry.history()) == 1
    assert [line["event"] for line in place.told] == ["nothing"]
    assert place.told[0]["details"] == {"name": "small", **first.told}


def test_a_night_goes_on_where_the_last_attempt_ended(place: Place) -> None:
    place.night().run()
    shutil.rmtree(place.path / "nights" / "registry")
    place.night().run()
    assert place.watcher.skipped == [False, True]


def test_a_night_waits_for_no_other(place: Place) -> None:
    with retraining_lock(place.registry.uri, owner="the other night"), pytest.raises(LockedError, match="other night"):
        place.night().run()
    assert place.watcher.begun == []
    assert place.registry.history() == []


def test_a_missing_champion_ends_the_night_before_any_work(place: Place) -> None:
    add(place.registry, "promote", made_champion(place.path / "run"))
    shutil.rmtree(place.path / "run")
    with pytest.raises(InputError, match=r"not what was promoted: its train stage is not there any more"):
        place.night().run()
    assert place.watcher.begun == []
    assert [record.action for record in place.registry.history()] == ["promote"]
    assert "its train stage is not there" in place.told[0]["details"]["error"]


def test_a_champion_whose_data_are_gone_says_what_to_do(place: Place) -> None:
    add(place.registry, "promote", made_champion(place.path / "run"))
    with pytest.raises(InputError, match=r"champion's ingest stage .* what is new cannot be told.*rollback"):
        place.night().run()


def test_a_watermark_from_the_future_ends_the_night(place: Place) -> None:
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="seconds")
    seen = Watermark(ingest="a" * 64, votes=3, newest=later)
    place.registry.add([], "nothing", None, by="a machine with another clock", seen=seen)
    with pytest.raises(InputError, match=r"Record 1 .* has read votes up to .*clock"):
        place.night().run()
    assert place.watcher.begun == []


def test_a_half_written_record_ends_the_night_and_nothing_is_lost(place: Place) -> None:
    place.night().run()
    (record,) = (place.path / "nights" / "registry" / "records").iterdir()
    whole = record.read_bytes()
    record.write_bytes(whole[:40])
    with pytest.raises(InputError, match=r"00000001\.json is damaged"):
        place.night().run()
    record.write_bytes(whole)
    assert place.night().run().action == "nothing"
