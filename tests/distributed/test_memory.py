import pytest
from pydantic import ValidationError

from prefopt.config.cluster import ClusterConfig
from prefopt.config.train import TrainConfig
from prefopt.distributed.memory import lowest_stage, states_memory, worker_memory
from prefopt.errors import ConfigError
from prefopt.models.size import UNetSize

GIB = 2**30
SD15 = UNetSize(total=859_520_964, largest_layer=29_491_200, lora=797_184, factored=400_000_000)
SDXL = UNetSize(total=2_567_463_684, largest_layer=29_491_200, lora=5_806_080, factored=1_000_000_000)


def test_full_fine_tuning_of_one_worker_is_twenty_bytes_a_parameter_and_the_reference() -> None:
    states = states_memory(SD15, TrainConfig(method="full", precision="bf16"), 0, workers=1, per_node=8)
    assert states.device == 20 * SD15.total + 2 * SD15.total


def test_every_stage_takes_less_than_the_one_before() -> None:
    train = TrainConfig(method="full", precision="bf16", workers=2)
    needed = [states_memory(SD15, train, zero, workers=8, per_node=8).device for zero in range(4)]
    assert needed == sorted(needed, reverse=True)
    assert len(set(needed)) == 4


def test_fp32_takes_four_bytes_of_every_weight() -> None:
    """ZeRO 2: weights on every worker; gradients, master copy and two moments shared. ZeRO 0: no master copy."""
    train = TrainConfig(method="full", objective={"name": "mapo"}, workers=1)
    found = states_memory(SDXL, train, 2, workers=8, per_node=8).device
    assert found == int(SDXL.total * (4 + 16 / 8))
    assert found / GIB == pytest.approx(14.3, abs=0.1)
    assert states_memory(SDXL, train, 0, workers=1, per_node=8).device == 16 * SDXL.total
    moved = TrainConfig(method="full", objective={"name": "mapo"}, zero=2, offload="optimizer")
    assert states_memory(SDXL, moved, 2, workers=8, per_node=8).device == 4 * SDXL.total


def test_a_reference_apart_is_one_more_frozen_unet() -> None:
    train = TrainConfig(method="lora", precision="bf16")
    one, two = (states_memory(SDXL, train, 0, workers=1, per_node=8, apart=apart).device for apart in (False, True))
    assert two - one == 2 * SDXL.total
    cached = TrainConfig(method="lora", precision="bf16", reference="cached")
    assert states_memory(SDXL, cached, 0, workers=1, per_node=8, apart=True).device == one


def test_adafactor_keeps_rows_and_columns() -> None:
    adamw, adafactor = (
        TrainConfig(method="full", precision="bf16", optimizer={"name": name}) for name in ("adamw", "adafactor")
    )
    saved = states_memory(SD15, adamw, 0, workers=1, per_node=8).device
    saved -= states_memory(SD15, adafactor, 0, workers=1, per_node=8).device
    assert saved == 4 * (2 * SD15.total - SD15.factored)


def test_offloaded_weights_leave_the_device_with_those_of_the_reference() -> None:
    train = TrainConfig(method="full", precision="bf16", zero=3, offload="all")
    states = states_memory(SD15, train, 3, workers=2, per_node=2)
    assert states.device == 4 * SD15.largest_layer
    assert states.host == int(1.5 * (16 + 2 + 2) * SD15.total)


def test_online_averages_are_counted() -> None:
    plain = TrainConfig(method="full", precision="bf16")
    online = TrainConfig(method="full", precision="bf16", objective={"name": "adaptive_dpo"})
    extra = states_memory(SD15, online, 0, workers=1, per_node=8).device
    extra -= states_memory(SD15, plain, 0, workers=1, per_node=8).device
    assert extra == 2 * (4 + 2) * SD15.total


def test_offload_moves_the_optimizer_to_the_host() -> None:
    plain = TrainConfig(method="full", precision="bf16", zero=2)
    moved = TrainConfig(method="full", precision="bf16", zero=2, offload="optimizer")
    before, after = (states_memory(SD15, train, 2, workers=2, per_node=2) for train in (plain, moved))
    assert after.device < before.device
    assert after.host > before.host


@pytest.mark.parametrize(("gib", "stage"), [(80, 0), (24, 1), (12, 2), (6, 3)])
def test_auto_takes_the_lowest_stage_that_fits(gib: int, stage: int) -> None:
    train = TrainConfig(method="full", precision="bf16", workers=8, global_batch=128, zero="auto")
    assert lowest_stage(SD15, train, per_node=8, memory=gib * GIB) == stage


def test_adapters_fit_without_sharding() -> None:
    train = TrainConfig(method="lora", precision="bf16", zero="auto")
    assert lowest_stage(SD15, train, per_node=8, memory=8 * GIB) == 0


def test_auto_with_everything_offloaded_is_stage_3() -> None:
    train = TrainConfig(method="full", precision="bf16", zero="auto", offload="all")
    assert lowest_stage(SD15, train, per_node=8, memory=4 * GIB) == 3
    with pytest.raises(ValidationError, match="offload all needs zero 3 or auto, not 2"):
        TrainConfig(zero=2, offload="all")


def test_nothing_fits() -> None:
    train = TrainConfig(method="full", precision="bf16", zero="auto")
    needed = r"no stage fits into 60% of 4\.0 GiB on 1 workers .*GiB at ZeRO 3\)\. Try more train\.workers or "
    with pytest.raises(ConfigError, match=needed + r"train\.offload all or train\.method lora"):
        lowest_stage(SD15, train, per_node=8, memory=4 * GIB)


def test_memory_of_a_worker() -> None:
    one, two = (worker_memory(ClusterConfig(), workers) for workers in (1, 2))
    assert one == 2 * two > 0
    assert worker_memory(ClusterConfig(worker_gpus=1, gpu_memory_gb=24), 4) == 24 * GIB
    with pytest.raises(ConfigError, match=r"Set cluster\.gpu_memory_gb"):
        worker_memory(ClusterConfig(worker_gpus=1), 1)
