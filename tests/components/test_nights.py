"""Components around a night and its registry, and the leaderboard, run by Kubeflow's local runner."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.decide.component import decide
from components.leaderboard.component import leaderboard
from components.plan_night.component import plan_night
from components.plan_variants.component import plan_variants
from components.promote.component import promote
from prefopt.config import RunConfig, dump_config
from prefopt.drift.check import without_champion
from prefopt.drift.records import Drift, Signal
from prefopt.registry import Registry
from prefopt.retraining.night import read_night
from tests.kit.components import finish_stage
from tests.kit.data import distinct, small_config, write_parquet
from tests.kit.leaderboard import made_run, stage_directory
from tests.kit.nights import add, made_champion, made_decision
from tests.kit.pipelines import run_locally


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_locally(tmp_path / "kfp", monkeypatch)
    write_parquet(tmp_path / "data.parquet", distinct(10))
    return tmp_path


def config(place: Path, **branches: Any) -> RunConfig:
    return small_config(place, [{"kind": "pickapic", "path": str(place / "data.parquet")}], **branches)


def holding() -> str:
    """A drift check that holds the night back."""
    signal = Signal(
        name="agreement",
        verdict="hold",
        value=0.5,
        p=0.001,
        corrected_p=0.002,
        warn=0.1,
        hold=0.2,
        known=20,
        new=20,
        sentence="Labels disagree.",
    )
    found = without_champion(5).model_dump() | {
        "signals": [signal],
        "action": "hold",
        "sentences": ["Labels disagree."],
    }
    return Drift.model_validate(found).encoded().decode()


def test_too_little_new_data_is_no_work_and_is_written_down(place: Path) -> None:
    text = dump_config(config(place, retrain={"min_pairs": 100}))
    outputs = plan_night(config=text, run_dir=str(place / "nights")).outputs
    assert (outputs["Output"], outputs["night_config"]) == ("nothing", "")
    assert "nothing to do" in outputs["reason"]
    assert [record.action for record in Registry(str(place / "nights" / "registry")).history()] == ["nothing"]


def test_a_planned_night_that_is_held_back_is_decided_so(place: Path) -> None:
    text, nights = dump_config(config(place, retrain={"min_pairs": 2})), place / "nights"
    planned = plan_night(config=text, run_dir=str(nights)).outputs
    night = nights / "nights" / "0001"
    assert planned["Output"] == "train"
    assert (planned["night_dir"], planned["night_config"]) == (str(night), f"{night}/night.yaml")
    for stage, files in {"inject": {}, "score": {}, "drift": {"drift.json": holding()}}.items():
        finish_stage(read_night(str(night)), night, stage, files)
    outputs = decide(config=text, run_dir=str(nights)).outputs
    (record,) = Registry(str(nights / "registry")).history()
    assert outputs["Output"] == record.action == "hold"
    assert outputs["reason"] == record.reason
    assert record.reason.startswith("Labels disagree.")


def test_a_proposal_is_accepted_in_a_name(place: Path) -> None:
    registry, run = Registry(str(place / "nights" / "registry")), place / "run"
    add(registry, "propose", made_champion(run), made_decision(place / "decision"))
    given = {"config": dump_config(config(place)), "run_dir": str(place / "nights")}
    outputs = promote(**given, by="ann", reason="- looks good").outputs
    *_, record = registry.history()
    assert (outputs["Output"], record.number, record.action) == (2, 2, "promote")
    assert (record.by, record.reason) == ("ann", "- looks good")
    shown = outputs["champion"]
    assert shown.metadata["uri"] == str(run)
    assert json.loads(Path(shown.path).read_text()) == json.loads(record.model_dump_json())


def test_evaluated_runs_become_one_page(place: Path) -> None:
    scores = {"tuned": (1.0, 1.0, 1.0, 1.0, 1.0, -1.0)}
    runs = [made_run(place / name, scores) for name in ("one", "two")]
    evaluations = [str(stage_directory(run)) for run in runs]
    outputs = leaderboard(evaluations=evaluations, out=str(place / "board")).outputs
    assert Path(outputs["page"].path).read_bytes() == (place / "board" / "leaderboard.html").read_bytes()
    (table,) = json.loads((place / "board" / "leaderboard.json").read_text())["tables"]
    assert {row["name"] for row in table["rows"]} == {"one", "two"}


def test_variants_are_checked_before_anything_runs(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = {"config": dump_config(config(place)), "run_dir": str(place / "run")}
    assert plan_variants(**given).output == [{"run_dir": str(place / "run"), "overrides": []}]
    wanted = {"dpo": ["train.objective.name=dpo"], "seed-1": ["seed=1"]}
    assert plan_variants(**given, variants=wanted).output == [
        {"run_dir": f"{place}/run/variants/{name}", "overrides": overrides} for name, overrides in wanted.items()
    ]
    for bad, told in (
        ({"dpo": ["train.objektive.name=dpo"]}, "variant dpo: the config: unknown key"),
        ({"../elsewhere": []}, "variant '../elsewhere': a name has"),
    ):
        with pytest.raises(RuntimeError, match="FAILURE"):
            plan_variants(**given, variants=bad)
        assert told in capfd.readouterr().out
