"""What a cell is said to cost."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.config.root import ModelConfig
from prefopt.lab.measure import unet_flops
from prefopt.planning.counting import Counts
from prefopt.planning.flops import forward_costs
from prefopt.planning.work import all_work
from tests.kit.data import small_config

COUNTS = Counts(
    votes=140,
    pairs=140,
    images=280,
    prompts=None,
    by_split={"train": 100, "validation": 20, "test": 20},
    source="a test",
    exact=True,
)
IMAGES = 2 * 10 * 8
TRAIN = {"steps": 10, "global_batch": 8, "micro_batch": 4, "method": "full"}
SNAPSHOTS = {"rewards": ["world/style", "world/taste"], "snapshots": ["a", "b"], "snapshot_draws": 3}
WATCHED = {"every": 4, "prompts": 3, "reward": "world/true", "sampler": {"steps": 6, "resolution": 32}}


def forwards(stage: str, train: dict[str, Any], score: dict[str, Any] | None = None) -> float:
    """Of a stage, for each image that training visits."""
    config = small_config(Path("place"), [{"kind": "world"}], train=TRAIN | train, score=score or {})
    costs = forward_costs(ModelConfig(path="world"))
    forward = costs.mean_unet(config.score.sizes).total
    return unet_flops(all_work(config, COUNTS, costs)[stage].items) / forward / IMAGES


def test_a_backward_counts_as_what_it_computes() -> None:
    """Beside the reference's forward."""
    assert forwards("train", {}) == 1 + 3
    assert forwards("train", {"gradient_checkpointing": True}) == 1 + 4
    assert forwards("train", {"method": "lora"}) == pytest.approx(1 + 2, abs=0.2)


def test_images_drawn_while_training_are_not_counted() -> None:
    assert forwards("train", {"health": {"evaluation": WATCHED}}) == forwards("train", {})


def test_policy_snapshots_are_not_counted_beside_inversions() -> None:
    inverted = {"visits": {"inversion": "renoise", "steps": 5, "renoise_steps": 2}}
    assert forwards("score", {}, inverted) == 5 * 3
    assert forwards("score", {}, inverted | {"panel": SNAPSHOTS}) == 5 * 3
    assert forwards("score", {}, {"panel": SNAPSHOTS}) == 0
