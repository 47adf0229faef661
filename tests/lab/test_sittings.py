"""Which work a sitting begins, with workers that do none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from prefopt.config.cluster import ClusterConfig
from prefopt.config.lab import BudgetConfig, LabConfig
from prefopt.errors import GuardError, PrefoptError
from prefopt.lab.cells import every_cell
from prefopt.lab.jobs import Job
from prefopt.lab.lab import OUTCOMES, Lab, Sitting
from prefopt.lab.ledger import Ledger
from prefopt.lab.waiting import advice, waiting_methods
from tests.kit.laboratories import Hands, Told, loaded, made

METHODS: dict[str, Any] = {
    "dpo": {"set": {"train.objective": {"name": "dpo"}}},
    "dpo, mirrored": {"set": {"train.objective": {"name": "dpo"}, "score.visits.flip": 0.5}, "like": "dpo"},
    "ipo": {"set": {"train.objective": {"name": "ipo"}}, "tune": {"train.objective.beta": [10, 20]}},
}
TUNING = {"noise": "clean", "seeds": [7], "candidates": {"train.optimizer.lr": [1e-5, 1.0]}}
HOT = "dpo, clean, seed 7, candidate 1"
DIVERGED = GuardError("The loss is not finite since step 3.")


class Bench:
    """A sitting of hands."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        place: Path,
        size: int = 1,
        errors: Mapping[str, PrefoptError] | None = None,
        **branches: Any,
    ) -> None:
        self.config: LabConfig = loaded(place, **branches)
        self.hands, self.told = Hands(self.config, size, errors), Told()
        self.place = place / "lab"
        patch.setattr("prefopt.lab.lab.hired", self.hands.hired)

    def sit(self, cluster: ClusterConfig | None = None, **budget: Any) -> Sitting:
        lab = Lab(self.config, str(self.place), self.told, cluster)
        return lab.run(BudgetConfig(**budget), lambda: None)


def test_what_another_sitting_has_done_meanwhile_is_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Bench(monkeypatch, tmp_path)

    def another(job: Job) -> None:
        if job.stage is None:
            for cell in every_cell(bench.config):
                Ledger(f"{bench.place}/{OUTCOMES}").keep(made(bench.config, cell))

    bench.hands.before_end = another
    sitting = bench.sit()
    first = "dpo, clean, seed 3"
    assert bench.hands.begun == [f"ingest for {first}", f"inject for {first}", f"score for {first}", first]
    assert len(sitting.found) == sitting.cells == 4


def test_what_another_sitting_did_while_a_stage_was_made_is_not_begun_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = Bench(monkeypatch, tmp_path)
    others = [cell for cell in every_cell(bench.config) if cell.noise == "clean"]

    def another(job: Job) -> None:
        if job.stage == "ingest":
            for cell in others:
                Ledger(f"{bench.place}/{OUTCOMES}").keep(made(bench.config, cell))

    bench.hands.before_end = another
    assert len(bench.sit().found) == 4
    assert bench.hands.cells == ["dpo, flips 25 %, seed 3", "adaptive_dpo, flips 25 %, seed 3"]
    assert "inject for dpo, clean, seed 3" not in bench.hands.begun


def test_a_budget_of_one_cell_makes_no_stage_of_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Bench(monkeypatch, tmp_path, size=4, seeds=[3, 4])
    first = "dpo, clean, seed 3"
    assert len(bench.sit(cells=1).found) == 1
    assert bench.hands.begun == [f"ingest for {first}", f"inject for {first}", f"score for {first}", first]
    assert bench.told.left[-1] == 0.0
    assert len(bench.sit(cells=3).found) == 4
    assert len(bench.hands.cells) == 4


def test_a_stage_that_fails_makes_room_for_other_cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Bench(monkeypatch, tmp_path, errors={"inject for dpo, clean, seed 3": DIVERGED})
    sitting = bench.sit(cells=1)
    assert bench.hands.cells == ["dpo, flips 25 %, seed 3"]
    assert [cell.title for cell in sitting.failed] == ["dpo, clean, seed 3", "adaptive_dpo, clean, seed 3"]


def test_a_candidate_that_fails_is_told_with_the_methods_that_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = Bench(monkeypatch, tmp_path, errors={HOT: DIVERGED}, methods=METHODS, tuning=TUNING)
    sitting = bench.sit()
    assert sitting.chosen == {"ipo": 0}
    assert {cell.method for cell in sitting.found if cell.candidate is None} == {"ipo"}
    assert (sitting.cells, len(sitting.found), len(sitting.failed)) == (4 + 6, 3 + 2, 1)
    waiting = waiting_methods(bench.config, sitting.failed)
    assert {name: [cell.title for cell in cells] for name, cells in waiting.items()} == {
        "dpo": [HOT],
        "dpo, mirrored": [HOT],
    }
    words = advice(bench.config, sitting.failed)
    assert "No grid cell of 'dpo', 'dpo, mirrored' can begin, for 'dpo' has" in words
    assert "candidate 1 (train.optimizer.lr=1.0)" in words
    assert f"{HOT}: {DIVERGED}" in words
    assert "tuning.candidates" in words
    assert bench.told.left[-1] == 0.0, "cells that cannot begin take no time"


def test_candidates_of_a_methods_own_are_changed_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = {"ipo, clean, seed 7, candidate 0": DIVERGED}
    bench = Bench(monkeypatch, tmp_path, errors=failing, methods=METHODS, tuning=TUNING)
    words = advice(bench.config, bench.sit().failed)
    assert "methods.ipo.tune" in words
    assert "tuning.candidates" not in words


def test_no_method_waits_for_a_grid_cell_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Bench(monkeypatch, tmp_path, errors={"dpo, clean, seed 3": DIVERGED})
    sitting = bench.sit()
    assert len(sitting.failed) == 1
    assert advice(bench.config, sitting.failed) == ""


def test_workers_are_hired_on_the_cluster_that_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Bench(monkeypatch, tmp_path)
    bench.sit(ClusterConfig(address="10.0.0.1:6379"), cells=1)
    assert bench.hands.cluster
    assert bench.hands.cluster.address == "10.0.0.1:6379"
    bench.sit(cells=1)
    assert bench.hands.cluster.address is None
