"""What counts as new: rows that come again, come late, are labelled anew, are withdrawn or leave their source."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.data.pair_lists import read_pairs
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.registry import Registry
from prefopt.retraining import Night, Plan
from prefopt.retraining.plan import watermark
from prefopt.stages.base import StageOutput
from prefopt.stages.chain import Chain
from tests.kit.data import distinct, quiet, small_config, write_parquet


class Silent:
    def begin(self, stage: str) -> None: ...
    def progress(self, done: int, total: int, what: str, how: str = "") -> None: ...
    def end(self, outcome: object) -> None: ...


class Deliveries:
    """A source that grows, and a registry that has judged all that was there before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "withdrawn.txt").touch()
        self.registry = Registry(str(path / "nights" / "registry"))
        source = {"kind": "pickapic", "path": str(path / "data")}
        ingest = {"withdrawn": str(path / "withdrawn.txt")}
        self.config = small_config(path, [source], ingest=ingest, retrain={"min_pairs": 1})

    def deliver(self, name: str, rows: list[dict[str, Any]]) -> None:
        write_parquet(self.path / "data" / name, rows)

    def night(self) -> Night:
        return Night(self.config, str(self.path / "nights"), start_engine=lambda: None, watcher=Silent())

    def plan(self) -> frozenset[str]:
        """The pairs that the next night would train on; none if there is nothing to do."""
        planned = self.night().plan()
        if isinstance(planned, Plan):
            assert planned.config.night is not None
            return read_pairs(f"{planned.run_dir}/fresh.txt")
        assert planned.action == "nothing"
        return frozenset()

    def ingested(self) -> StageOutput:
        """The data of the night that was planned last."""
        run = sorted((self.path / "nights" / "nights").iterdir())[-1]
        chain = Chain(self.config, str(run), start_engine=lambda: None, progress=quiet)
        return chain.finished("ingest", needed_by="the test")

    def judge(self) -> None:
        """Say of all data that they came to a decision."""
        self.registry.add(self.registry.history(), "reject", None, by="kit", seen=watermark(self.ingested()))

    def training(self) -> dict[str, str]:
        """Prompts of the training split, by pair."""
        rows = read_tables(self.ingested(), "pairs-", ["pair_id", "prompt", "split"]).to_pylist()
        return {row["pair_id"]: row["prompt"] for row in rows if row["split"] == "train"}


@pytest.fixture
def deliveries(tmp_path: Path) -> Deliveries:
    made = Deliveries(tmp_path)
    made.deliver("monday.parquet", distinct(12, start=20))
    assert made.plan() == made.training().keys()
    made.judge()
    assert made.plan() == frozenset()
    return made


def test_rows_that_come_again_are_not_new(deliveries: Deliveries) -> None:
    deliveries.deliver("again.parquet", list(reversed(distinct(12, start=20))))
    assert deliveries.plan() == frozenset()


def test_rows_that_come_late_are_new_whenever_they_were_cast(deliveries: Deliveries) -> None:
    deliveries.deliver("late.parquet", distinct(6))  # cast before Monday's
    new = deliveries.plan()
    assert new
    assert new == {pair for pair, prompt in deliveries.training().items() if int(prompt.split()[1]) < 20}


def test_a_pair_that_is_labelled_anew_is_new(deliveries: Deliveries) -> None:
    chosen, prompt = next(iter(deliveries.training().items()))
    (row,) = [row for row in distinct(12, start=20) if row["caption"] == prompt]
    deliveries.deliver("anew.parquet", [{**row, "label_0": 1.0 - row["label_0"], "created_at": "2024-01-02"}])
    assert deliveries.plan() == {chosen}
    votes = read_tables(deliveries.ingested(), "votes-", ["pair_id"])["pair_id"].to_pylist()
    assert votes.count(chosen) == 2


def test_a_withdrawn_pair_is_never_trained_on_again_and_it_is_counted(deliveries: Deliveries) -> None:
    chosen, prompt = next(iter(deliveries.training().items()))
    (deliveries.path / "withdrawn.txt").write_text(f"{chosen}\n")
    (row,) = [row for row in distinct(12, start=20) if row["caption"] == prompt]
    deliveries.deliver("anew.parquet", [{**row, "label_0": 1.0 - row["label_0"]}])
    assert deliveries.plan() == frozenset()
    assert chosen not in deliveries.training()
    assert deliveries.ingested().manifest.summary["quarantined_withdrawn"] == 2


def test_rows_that_left_their_source_are_no_longer_trained_on(deliveries: Deliveries) -> None:
    before = deliveries.training()
    (deliveries.path / "data" / "monday.parquet").unlink()
    deliveries.deliver("tuesday.parquet", distinct(6))
    new = deliveries.plan()
    assert new
    assert new == deliveries.training().keys()
    assert not new & before.keys()
    assert Storage(str(deliveries.path / "nights" / "nights" / "0001")).exists("run.json")
