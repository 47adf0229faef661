from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.config.score import ScoreConfig
from prefopt.distributed.memory import states_memory
from prefopt.models.size import unet_size
from prefopt.planning.flops import forward_costs
from prefopt.planning.gpus import choose_device
from prefopt.planning.memory import CONTEXT, MemoryPlan, plan_memory
from tests.kit.data import small_config
from tests.kit.published import sd15_configs

FULL = {"method": "full", "precision": "fp16", "global_batch": 128, "micro_batch": 16, "workers": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sd15_configs(tmp_path_factory.mktemp("sd15"))


def config(place: Path, **train: Any) -> RunConfig:
    branches: dict[str, Any] = {"model": {"path": str(place)}, "score": {"resolution": 512}}
    return small_config(place, [{"kind": "world"}], **branches, train={**FULL, **train})


def memory(place: Path, gpu: str, **train: Any) -> MemoryPlan:
    tree = config(place, **train)
    return plan_memory(tree, forward_costs(tree.model), choose_device(tree, gpu)[0])


def test_what_is_needed_is_the_sum_of_its_parts(place: Path) -> None:
    tree = config(place)
    found = memory(place, "A100-80GB")
    size = unet_size(forward_costs(tree.model).empty_unet, tree.train.lora)
    for stage in found.stages:
        states = states_memory(size, tree.train, stage.zero, workers=8, per_node=8)
        assert (stage.states, stage.host) == (states.device, states.host)
        assert stage.needed == states.device + found.text_encoders + found.activations + CONTEXT
    assert found.text_encoders == 2 * 123_060_480
    assert found.verdict.startswith("Training fits: ZeRO 0 needs ")


def test_activations_grow_with_the_micro_batch_and_shrink_with_checkpointing(place: Path) -> None:
    plain, half, again, wide = (
        memory(place, "H200", **train).activations
        for train in ({}, {"micro_batch": 8}, {"gradient_checkpointing": True}, {"precision": "fp32"})
    )
    assert plain == 2 * half == wide / 2
    assert again < 0.4 * plain


def test_the_largest_bucket_decides(place: Path) -> None:
    tree = config(place)

    def activations(score: dict[str, Any]) -> float:
        changed = tree.model_copy(update={"score": ScoreConfig.model_validate(score)})
        return plan_memory(changed, forward_costs(tree.model), choose_device(tree, "H200")[0]).activations

    assert activations({"buckets": [[512, 512], [448, 512], [448, 576]]}) == activations({"resolution": 512})


def test_too_small_a_gpu_is_told_with_the_cure(place: Path) -> None:
    found = memory(place, "A100-40GB")
    assert (found.chosen, found.stages[0].fits) == (0, False)
    most = found.stages[0].largest_micro_batch
    assert 0 < most < 16
    assert found.verdict.startswith("Training does not fit: ZeRO 0 needs ")
    assert found.verdict.endswith(f"(A100-40GB). A train.micro_batch of {most} would fit.")
    assert memory(place, "A100-40GB", micro_batch=2, global_batch=16).stages[0].fits
    hopeless = memory(place, "T4").verdict
    assert hopeless.endswith(
        "Try a higher train.zero with more workers, train.offload all with train.zero 3, train.method lora,"
        " train.gradient_checkpointing."
    )


def test_auto_takes_what_the_run_would_take(place: Path) -> None:
    assert memory(place, "A100-80GB", zero="auto").chosen == 0
    small = memory(place, "L4", zero="auto", gradient_checkpointing=True)
    assert small.chosen == 1
    assert "ZeRO 1 (auto: the lowest whose states take at most 60% of a worker's memory)" in small.verdict
    none = memory(place, "T4", zero="auto", workers=1)
    assert none.chosen is None
    assert none.verdict.startswith("train.zero auto: no stage fits")


def test_stages_that_the_config_refuses_are_told(place: Path) -> None:
    refused = [stage.refused for stage in memory(place, "H200", zero=2, offload="optimizer").stages]
    assert refused == ["offload optimizer needs ZeRO 1 to 3", "", "", ""]
    everything = [bool(stage.refused) for stage in memory(place, "H200", zero=3, offload="all").stages]
    assert everything == [True, True, True, False]
    adafactor = [stage.refused for stage in memory(place, "H200", optimizer={"name": "adafactor"}).stages]
    assert adafactor == ["", *["adafactor needs ZeRO 0"] * 3]
