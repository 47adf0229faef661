"""Alignment as a compiled pipeline, run whole by Kubeflow's local runner: judged by what lies in the end."""

import json
from pathlib import Path

import pytest

from tests.kit.commands import run_command
from tests.kit.data import fingerprint
from tests.kit.pipelines import as_yaml, compiled, run_locally, world_tree

STAGES = {"ingest", "inject", "score", "card", "train", "evaluate"}


def keys(run: Path) -> dict[str, str]:
    return {stage: key for stage, (key, *_) in fingerprint(run).items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("engine", ["process", pytest.param("ray", marks=pytest.mark.matrix)])
def test_variants_are_what_one_command_makes_and_stand_in_one_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    run_locally(tmp_path / "kfp", monkeypatch)
    config = as_yaml(world_tree(tmp_path, cluster={"engine": engine}))
    variants = {"plain": [], "ipo": ["train.objective={name: ipo}"]}
    compiled("align")(config=config, run_dir=str(tmp_path / "run"), variants=variants)
    found = {name: keys(tmp_path / "run" / "variants" / name) for name in variants}
    shared = {stage for stage in STAGES - {"card"} if found["plain"][stage] == found["ipo"][stage]}
    assert shared == {"ingest", "inject", "score"}
    (table,) = json.loads((tmp_path / "run" / "leaderboard.json").read_text())["tables"]
    named = {(row["name"], row["training"]["objective"]) for row in table["rows"]}
    assert named == {("plain", "dpo"), ("ipo", "ipo")}

    (tmp_path / "small.yaml").write_text(config)
    run_command("run", "small.yaml", "--run-dir", "whole", directory=tmp_path)
    whole = keys(tmp_path / "whole")
    assert whole.keys() == STAGES
    assert {**found["plain"], "card": keys(tmp_path / "run")["card"]} == whole
