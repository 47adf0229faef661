"""What a plan says of reward models."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.config import parse_config
from prefopt.planning.flops import REWARD_FLOPS
from prefopt.planning.plan import Plan, make_plan
from tests.kit.data import config_tree

HTTP = {"judge": {"kind": "http", "url": "http://nowhere.invalid/", "version": "1"}}


def planned(tmp_path: Path, *names: str, **rewards: Any) -> Plan:
    branches = {"evaluate": {"rewards": list(names)}, "rewards": rewards}
    tree = config_tree(tmp_path, [{"kind": "world", "pairs": 20}], **branches)
    return make_plan(parse_config(tree, "config"), str(tmp_path / "run"), gpu="H100", pairs=1000)


def items(plan: Plan) -> dict[str, Any]:
    return {item.what.removeprefix("images scored by "): item for item in plan.work["evaluate"].items}


def test_each_reward_costs_what_its_architecture_does(tmp_path: Path) -> None:
    plan = planned(tmp_path, "pickscore", "imagereward", "judge", "theirs", models=HTTP, precision="bf16")
    found = items(plan)
    assert found["pickscore"].flops == pytest.approx(0.382e12)
    assert found["imagereward"].flops < found["pickscore"].flops / 2
    assert found["judge"].flops == 0
    assert found["theirs"].flops == REWARD_FLOPS
    assert {found[name].precision for name in ("pickscore", "judge")} == {"bf16"}
    assert any(
        "in GiB on every worker that computes them (bf16): pickscore 1.8, imagereward 0.8." in x for x in plan.notes
    )
    assert "The time of rewards behind HTTP is not in this plan: judge." in plan.notes


def test_the_worlds_rewards_hold_nothing(tmp_path: Path) -> None:
    plan = planned(tmp_path, "world/true")
    assert items(plan)["world/true"].flops == 0
    assert not [note for note in plan.notes if "reward" in note]


def test_the_network_of_image_features_is_told(tmp_path: Path) -> None:
    for features, told in (({"kind": "dinov2"}, "dinov2, in GiB on every worker of evaluate (fp32): 0.3."), (None, "")):
        tree = config_tree(tmp_path, [{"kind": "world", "pairs": 20}])
        tree["evaluate"]["features"] = features
        plan = make_plan(parse_config(tree, "config"), str(tmp_path / "run"), gpu="H100", pairs=1000)
        notes = [note for note in plan.notes if "image features" in note]
        assert notes == ([f"Weights of the image features {told}"] if told else [])
