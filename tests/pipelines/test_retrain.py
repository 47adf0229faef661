"""A night of retraining as a compiled pipeline, run whole by Kubeflow's local runner: judged by what is there then."""

import json
from pathlib import Path

import pytest

from prefopt.registry import Registry
from prefopt.world.dataset import write_dataset
from tests.kit.data import check_manifests
from tests.kit.pipelines import as_yaml, compiled, run_locally, world_tree

NIGHT_STAGES = {"ingest", "inject", "score", "drift", "train", "evaluate", "gate"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_night_comes_to_a_decision_and_the_next_finds_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_locally(tmp_path / "kfp", monkeypatch)
    write_dataset(tmp_path / "data", pairs=40, seed=1)
    sources = [{"kind": "pickapic", "path": str(tmp_path / "data"), "group_column": "user_group"}]
    config = as_yaml(
        world_tree(
            tmp_path,
            ingest={"sources": sources},
            score={"alpha": None, "panel": None},
            train={"objective": {"name": "dpo"}},
            retrain={"min_pairs": 4},
            gate={"mode": "auto"},
        )
    )
    nights = tmp_path / "nights"
    retrain = compiled("retrain")
    retrain(config=config, run_dir=str(nights))
    (record,) = Registry(str(nights / "registry")).history()
    assert record.action in ("promote", "reject")
    night = nights / "nights" / "0001"
    assert {manifest.stage for manifest in check_manifests(str(night))} == NIGHT_STAGES
    assert record.decision == str(next(night.glob("gate/*/decision.json")))
    assert json.loads((night / "run.json").read_text()).keys() == NIGHT_STAGES

    retrain(config=config, run_dir=str(nights))
    first, second = Registry(str(nights / "registry")).history()
    assert (first, second.action) == (record, "nothing")
    assert second.reason.endswith("nothing to do.")
    assert [manifest.stage for manifest in check_manifests(str(nights / "nights" / "0002"))] == ["ingest"]
