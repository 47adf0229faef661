"""Components of single stages, run by Kubeflow's local runner."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.card.component import card
from components.drift.component import drift
from components.gate.component import gate
from components.ingest.component import ingest
from components.inject.component import inject
from components.score.component import score
from components.train.component import train
from prefopt.config import RunConfig, dump_config, parse_config
from prefopt.drift.check import without_champion
from tests.kit.components import finish_stage
from tests.kit.data import check_manifests, distinct, small_config, write_parquet
from tests.kit.nights import made_decision
from tests.kit.pipelines import run_locally, shows

Digest = "a" * 64


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_locally(tmp_path / "kfp", monkeypatch)
    write_parquet(tmp_path / "data.parquet", distinct(20))
    return tmp_path


def config(place: Path, **branches: Any) -> RunConfig:
    source = {"kind": "pickapic", "path": str(place / "data.parquet")}
    return small_config(place, [source], **branches)


def night(place: Path) -> RunConfig:
    tree = config(place).model_dump(mode="json", by_alias=True)
    pairs = {"place": f"{place}/fresh.txt", "sha256": Digest, "pairs": 3}
    tree["night"] = {
        "number": 1,
        "after": None,
        "champion": None,
        "full": True,
        "level": 0.01,
        "replay": 0.0,
        "fresh": pairs,
        "aside": pairs,
    }
    return parse_config(tree, "night")


def test_a_stage_is_made_where_the_next_finds_it(ray_session: None, place: Path) -> None:
    """On a Ray that runs, whose address the environment tells."""
    flips = {"flips": [{"kind": "symmetric", "rate": 0.5}]}
    run, text = str(place / "run"), dump_config(config(place, inject=flips, cluster={"engine": "ray"}))
    first = ingest(config=text, run_dir=run).outputs
    second = inject(config=text, run_dir=run).outputs
    made = {manifest.stage: manifest for manifest in check_manifests(run)}
    assert made.keys() == {"ingest", "inject"}
    assert first["stage_uri"] == f"{run}/ingest/{made['ingest'].key[:12]}"
    shows(first["data"], first["stage_uri"], place / "kfp")
    assert (first["data"].metadata["rows_out"], first["data"].metadata["skipped"]) == (20, False)
    assert second["data"].metadata["flipped"] == made["inject"].summary["flipped"] > 0


def test_a_stage_that_is_done_is_shown_and_noted_as_the_run_s_own(place: Path) -> None:
    done = finish_stage(config(place), place / "run", "score", {"scales.json": "{}"}, {"pairs": 7, "panel": None})
    outputs = score(config=dump_config(config(place)), run_dir=str(place / "run")).outputs
    assert outputs["stage_uri"] == done.uri
    shows(outputs["data"], done.uri, place / "kfp")
    told = outputs["data"].metadata
    assert (told["stage"], told["skipped"], told["pairs"], "panel" in told) == ("score", True, 7, False)
    assert json.loads((place / "run" / "run.json").read_text()) == {"score": told["key"]}


def test_the_card_is_a_page(place: Path) -> None:
    finish_stage(config(place), place / "run", "card", {"data-card.html": "<p>é</p>"})
    outputs = card(config=dump_config(config(place)), run_dir=str(place / "run")).outputs
    assert Path(outputs["page"].path).read_text() == "<p>é</p>"


def test_a_trained_model_is_named_with_the_figures_of_its_last_step(place: Path) -> None:
    steps = [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.5, "u_mean": None}]
    files = {"steps.jsonl": "\n".join(map(json.dumps, steps)) + "\n", "model/model_index.json": "{}"}
    done = finish_stage(config(place), place / "run", "train", files, {"objective": "dpo"})
    outputs = train(config=dump_config(config(place)), run_dir=str(place / "run")).outputs
    assert outputs["stage_uri"] == done.uri
    shows(outputs["model"], done.uri, place / "kfp")
    assert outputs["model"].metadata["objective"] == "dpo"
    shown = outputs["metrics"].metadata
    assert (shown["step"], shown["loss"], "u_mean" in shown) == (2.0, 0.5, False)


def test_drift_gives_the_action_its_reasons_and_its_signals(place: Path) -> None:
    found = without_champion(5)
    finish_stage(night(place), place / "run", "drift", {"drift.json": found.encoded().decode()}, {"new_pairs": 5})
    outputs = drift(config=dump_config(night(place)), run_dir=str(place / "run")).outputs
    assert (outputs["Output"], outputs["sentences"]) == ("train", "\n".join(found.sentences))
    assert outputs["signals"].metadata["new_pairs"] == 5.0


def test_the_gate_gives_its_verdict_and_its_page(place: Path) -> None:
    decision = Path(made_decision(place / "made", better=False)).read_text()
    files = {"decision.json": decision, "decision.html": "<p>no</p>"}
    finish_stage(night(place), place / "run", "gate", files, {"verdict": "not_better", "win_rate": 0.4, "p": None})
    outputs = gate(config=dump_config(night(place)), run_dir=str(place / "run")).outputs
    assert outputs["Output"] == "not_better"
    assert Path(outputs["page"].path).read_text() == "<p>no</p>"
    assert outputs["metrics"].metadata["win_rate"] == 0.4


def test_a_failing_stage_fails_its_task_with_its_words(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="FAILURE"):
        ingest(config="name: kit\nmodle: {}\n", run_dir=str(place / "run"))
    assert "unknown key 'modle': did you mean 'model'?" in capfd.readouterr().out
    with pytest.raises(RuntimeError, match="FAILURE"):
        train(config=dump_config(config(place)), run_dir=str(place / "run"))
    assert "train needs the output of ingest" in capfd.readouterr().out
    (place / "data.parquet").write_bytes(b"no parquet")
    with pytest.raises(RuntimeError, match="FAILURE"):
        ingest(config=dump_config(config(place)), run_dir=str(place / "run"))
    assert "JobError: prefopt ingest ended with exit code 3: " in capfd.readouterr().out
