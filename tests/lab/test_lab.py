import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from prefopt.config.lab import BudgetConfig
from prefopt.data.manifest import read_manifest
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError, PrefoptError
from prefopt.lab.cells import Cell
from prefopt.lab.lab import Lab, Sitting
from prefopt.lab.outcome import Outcome, as_lines, read_outcomes
from tests.kit import lab as kit
from tests.kit.laboratories import Told, loaded

pytestmark = pytest.mark.usefixtures("ray_session")


def sit(place: Path, told: Told | None = None, budget: BudgetConfig | None = None, **branches: Any) -> Sitting:
    lab = Lab(loaded(place, **branches), str(place / "lab"), told or Told())
    return lab.run(budget or BudgetConfig(), lambda: None)


class Grid:
    """Two objectives and two noises, in two sittings, the first of one cell."""

    def __init__(self, place: Path) -> None:
        self.place, self.told = place, Told()
        self.first = sit(place, budget=BudgetConfig(cells=1))
        self.whole = sit(place, self.told)

    def outcome(self, method: str, noise: str) -> Outcome:
        (found,) = [one for one in self.whole.found.values() if (one.method, one.noise) == (method, noise)]
        return found

    def cell(self, method: str, noise: str) -> Cell:
        (found,) = [cell for cell in self.whole.found if (cell.method, cell.noise) == (method, noise)]
        return found


@pytest.fixture(scope="module")
def grid(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    return Grid(tmp_path_factory.mktemp("grid"))


def test_a_sitting_goes_on_where_the_last_one_ended(grid: Grid) -> None:
    assert (len(grid.first.found), grid.first.cells) == (1, 4)
    assert (len(grid.whole.found), grid.whole.cells) == (4, 4)
    assert grid.told.done[0] == 1
    assert all(left and left > 0.0 for left in grid.told.left[1:-1])
    assert grid.told.left[-1] == 0.0
    assert len(grid.told.lines) == 3


def test_cells_are_ordinary_runs_that_share_what_is_alike(grid: Grid) -> None:
    for cell, outcome in grid.whole.found.items():
        run = Storage(str(grid.place / "lab" / cell.name))
        keys = json.loads(run.read_bytes("run.json"))
        assert keys["evaluate"] == outcome.key
        for stage, key in keys.items():
            assert read_manifest(run.child(f"{stage}/{key[:12]}")).key == key
    shared = grid.place / "lab" / "shared"
    assert [len(list((shared / stage).iterdir())) for stage in ("ingest", "inject", "score")] == [1, 2, 2]


def test_objectives_make_the_same_visits(grid: Grid) -> None:
    def score(method: str, noise: str) -> str:
        run = grid.place / "lab" / grid.cell(method, noise).name
        return str(json.loads((run / "run.json").read_text())["score"])

    assert score("dpo", "clean") == score("adaptive_dpo", "clean") != score("dpo", "flips 25 %")


def test_figures_are_those_of_the_run(grid: Grid) -> None:
    cell, outcome = grid.cell("adaptive_dpo", "flips 25 %"), grid.outcome("adaptive_dpo", "flips 25 %")
    run = grid.place / "lab" / cell.name
    metrics = json.loads((run / "metrics.json").read_text())
    assert outcome.accuracy == metrics["accuracy_heldout"]["value"]
    assert outcome.win_rate == metrics["models"]["tuned"]["world/true"]["win_rate"]["value"]
    assert outcome.rate == 0.25
    assert 0 < outcome.flipped < outcome.labels
    assert outcome.minority is not None
    assert 0 < outcome.minority < outcome.labels
    offline = outcome.detected["offline"]
    assert sum(offline.labels) == outcome.labels
    assert sum(offline.flipped) == outcome.flipped
    assert set(grid.outcome("dpo", "clean").detected) == {"offline"}
    assert {"online", "offline"} == set(outcome.detected)
    clean = grid.outcome("dpo", "clean").detected["offline"]
    assert clean.auroc_flipped is None
    assert clean.auroc_minority is not None


def test_cost_counts_the_models_that_each_objective_asks(grid: Grid) -> None:
    """Both images of 16 visits: the policy's forward and backward count three, the reference one, two averages two."""
    assert grid.outcome("dpo", "clean").cost.train_forwards == 2 * 16 * 4
    assert grid.outcome("adaptive_dpo", "clean").cost.train_forwards == 2 * 16 * 6
    assert grid.outcome("dpo", "clean").cost.score_forwards == 0


def test_a_cell_runs_again_by_its_settings_and_gives_the_same(grid: Grid, tmp_path: Path) -> None:
    cell, outcome = grid.cell("adaptive_dpo", "flips 25 %"), grid.outcome("adaptive_dpo", "flips 25 %")
    here = [f"store={tmp_path}/store", "cluster.engine=process"]
    changes = [part for setting in [*cell.settings, *here] for part in ("--set", setting)]
    command = ["run", str(grid.place / "run.yaml"), "--run-dir", str(tmp_path / "run"), *changes]
    subprocess.run([sys.executable, "-m", "prefopt", *command], check=True, capture_output=True)
    keys = json.loads((tmp_path / "run" / "run.json").read_text())
    assert keys["evaluate"] == outcome.key
    again, first = tmp_path / "run", grid.place / "lab" / cell.name
    assert (again / "metrics.json").read_bytes() == (first / "metrics.json").read_bytes()


def test_outcomes_in_a_file_of_ones_own_are_not_made_again(grid: Grid, tmp_path: Path) -> None:
    kept = (grid.place / "lab" / "outcomes.jsonl").read_text()
    (tmp_path / "kept.jsonl").write_text(kept)
    told = Told()
    sitting = sit(tmp_path, told, outcomes="kept.jsonl", seeds=[3])
    assert len(sitting.found) == sitting.cells == 4
    assert told.lines == []
    assert not list((tmp_path / "lab").glob("cells/*"))
    assert (tmp_path / "kept.jsonl").read_text() == kept


def test_a_tuned_grid_is_found_again(tmp_path: Path) -> None:
    tuned = {
        "methods": {"dpo": {"set": {"train.objective": {"name": "dpo"}}}},
        "noises": {"clean": {"inject.flips": []}},
        "tuning": {"noise": "clean", "seeds": [8], "candidates": {"train.steps": [1, 2]}},
    }
    assert len(sit(tmp_path, **tuned).found) == 3
    told = Told()
    sitting = sit(tmp_path, told, **tuned)
    assert [cell.candidate for cell in sitting.found] == [0, 1, None]
    assert (sitting.cells, told.lines, told.done) == (3, [], [3])


def test_a_cell_that_fails_leaves_the_others_whole(grid: Grid, tmp_path: Path) -> None:
    far = {"train.optimizer.lr": 1e30, "train.guard.skipped_steps": 1}
    breaks = {"set": {"train.objective": {"name": "dpo"}, **far}}
    methods = {"dpo": {"set": {"train.objective": {"name": "dpo"}}}, "broken": breaks}
    told = Told()
    sitting = sit(tmp_path, told, methods=methods, noises={"clean": {"inject.flips": []}})
    assert [cell.method for cell in sitting.found] == ["dpo"]
    ((cell, error),) = sitting.failed.items()
    assert cell.method == "broken"
    assert isinstance(error, PrefoptError)
    assert any("broken, clean, seed 3: failed." in line for line in told.lines)
    kept = (tmp_path / "lab" / "outcomes.jsonl").read_bytes()
    assert [one.method for one in read_outcomes(kept, "kept")] == ["dpo"]


def test_another_truth_says_other_things_of_the_same_runs(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_text((grid.place / "lab" / "outcomes.jsonl").read_text())
    lab = Lab(loaded(tmp_path, outcomes="kept.jsonl", truth="world/noir"), str(tmp_path / "lab"), Told())
    assert not lab.run(BudgetConfig(minutes=0), lambda: None).found


@pytest.mark.parametrize(
    ("branches", "words"),
    [
        ({"methods": {"a_b": {}, "a-b": {}}}, "have one directory"),
        ({"methods": {"dpo": {"set": {"train.stepss": 3}}}}, "'dpo, clean, seed 3' is no run"),
        ({"methods": {"dpo": {"set": {"evaluate.split": "validation"}}}}, "judged on the validation split"),
        (
            {
                "methods": {"dpo": {"set": {"evaluate.split": "test"}}},
                "tuning": {"noise": "clean", "candidates": {"train.steps": [1, 2]}},
            },
            "'dpo, clean, seed 1000, candidate 0' would be judged on the test split, not on validation",
        ),
        ({"truth": "world/treu"}, "truth: There is no reward model 'world/treu'. Known: .*world/true"),
        ({"methods": {"dpo": {"set": {"inject": {}}}}}, "which would erase 'inject.seed', the cell's seed"),
    ],
)
def test_what_cannot_be_a_cell_is_said_before_any_begins(tmp_path: Path, branches: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Lab(loaded(tmp_path, **branches), str(tmp_path / "lab"), Told())


def test_a_file_of_outcomes_is_read_line_by_line(tmp_path: Path) -> None:
    """And only the ends of lines end a line, whatever else Python takes for one."""
    (tmp_path / "kept.jsonl").write_bytes(as_lines([kit.outcome("d\u2028p\u0085o", "clean", 0)]).encode())
    config = loaded(tmp_path, outcomes="kept.jsonl")
    Lab(config, str(tmp_path / "lab"), Told())
    with (tmp_path / "kept.jsonl").open("ab") as kept:
        kept.write(b'{"key": "\xff"}\n')
    with pytest.raises(InputError, match=r"kept\.jsonl, line 2 is no outcome"):
        Lab(config, str(tmp_path / "lab"), Told())


def test_more_workers_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="99 workers"):
        sit(tmp_path, workers=99)


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_cell_with_it(tmp_path: Path) -> None:
    methods = {"dpo": {"set": {"train.objective": {"name": "dpo"}, "score.panel": None, "train.steps": 60}}}
    killed = threading.Event()

    def kill() -> None:
        while not killed.wait(0.1):
            if not list((tmp_path / "lab").glob("cells/*/train/*/work/plan.parquet")):
                continue
            for process in psutil.Process().children(recursive=True):
                if "ray::_Actor" in process.name() or process.cmdline()[:1] == ["ray::_Actor.do"]:
                    process.kill()
                    killed.set()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    sitting = sit(tmp_path, methods=methods, noises={"clean": {"inject.flips": []}}, truth=None, workers=1)
    assert killed.is_set()
    assert len(sitting.found) == 1
