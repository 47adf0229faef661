"""A plan: everything that is worked out about a run before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prefopt.config import RunConfig
from prefopt.config.rewards import HttpModel
from prefopt.data.storage import Storage
from prefopt.features import feature_resources
from prefopt.models.identity import with_absolute_places
from prefopt.models.shape import latent_shape
from prefopt.models.size import UNetSize, unet_size
from prefopt.planning.amounts import StageWork
from prefopt.planning.compare import Taken, compare_run
from prefopt.planning.counting import Counts, count_data
from prefopt.planning.flops import ForwardCosts, forward_costs
from prefopt.planning.gpus import GIB, Device, choose_device
from prefopt.planning.hours import StageTime, stage_time
from prefopt.planning.memory import MemoryPlan, plan_memory
from prefopt.planning.work import all_work
from prefopt.rewards import reward_resources


@dataclass(frozen=True)
class Plan:
    """What a run will do and take."""

    config: RunConfig
    device: Device
    counts: Counts
    costs: ForwardCosts
    size: UNetSize
    work: Mapping[str, StageWork]
    time: Mapping[str, StageTime]
    memory: MemoryPlan
    taken: Sequence[Taken]
    notes: Sequence[str]


def make_plan(config: RunConfig, run_dir: str, *, gpu: str | None = None, pairs: int | None = None) -> Plan:
    """Plan a run: no weights are loaded, nothing is written, and Ray is not started.

    ConfigError if the number of pairs is not known or the GPU's name is not; InputError if the model's configs cannot
    be read.
    """
    config = with_absolute_places(config)
    run = Storage(run_dir)
    device, guess = choose_device(config, gpu)
    counts = count_data(config, run, pairs)
    for size in config.score.sizes:
        latent_shape(config, size)
    costs = forward_costs(config.model)
    work = all_work(config, counts, costs)
    taken, missing = compare_run(run, gpu)
    return Plan(
        config=config,
        device=device,
        counts=counts,
        costs=costs,
        size=unet_size(costs.empty_unet, config.train.lora),
        work=work,
        time={name: stage_time(stage, device, config.cluster) for name, stage in work.items()},
        memory=plan_memory(config, costs, device),
        taken=taken,
        notes=[*([guess] if guess else []), *_notes(config, device, counts), *missing],
    )


def _notes(config: RunConfig, device: Device, counts: Counts) -> list[str]:
    train, notes = config.train, []
    if not counts.exact:
        notes.append("Images and splits are guessed from the number of pairs: two new images each, no ties.")
    if device.is_gpu and not config.cluster.worker_gpus:
        notes.append("cluster.worker_gpus is 0: this plan gives every worker a GPU, but the run would not.")
    if device.peak and train.precision == "bf16" and device.peak["bf16"] == device.peak["fp32"]:
        notes.append(f"{device.name} has no fast bf16: train.precision fp16 would be faster.")
    if train.zero == 3 and train.workers == 1:
        notes.append("ZeRO 3 with one worker shards nothing.")
    notes += [*_reward_notes(config), *_feature_notes(config)]
    notes.append("Rows that stores hold from earlier runs are not made again, so a run may take less.")
    return notes


def _feature_notes(config: RunConfig) -> list[str]:
    """How much memory the network of the image features takes, where it is not a part of the model."""
    features, memory = config.evaluate.features, feature_resources(config).memory
    if features is None or not memory:
        return []
    return [
        f"Weights of the image features {features.kind}, in GiB on every worker of evaluate"
        f" ({config.rewards.precision}): {memory / GIB:.1f}."
    ]


def _reward_notes(config: RunConfig) -> list[str]:
    """How much memory reward models take, and which of them answer from elsewhere."""
    names = dict.fromkeys([*config.score.reward_names(), *config.evaluate.rewards])
    found = {name: reward_resources(name, config.rewards) for name in names}
    held = {name: resources.memory for name, resources in found.items() if resources and resources.memory}
    remote = [name for name in names if isinstance(config.rewards.model(name), HttpModel)]
    notes = []
    if held:
        each = ", ".join(f"{name} {memory / GIB:.1f}" for name, memory in held.items())
        notes.append(
            f"Weights of reward models, in GiB on every worker that computes them ({config.rewards.precision}): {each}."
        )
    if remote:
        notes.append(f"The time of rewards behind HTTP is not in this plan: {', '.join(remote)}.")
    return notes
