"""The work of the train stage.

A forward of one image is F = W + A FLOPs: products with weights, and products of activations (attention). A backward
pass forms the gradients of both factors of a product: 2 F. Where a weight is frozen only the activation's gradient is
formed, so LoRA's backward pass is W + 2 A. The adapters' own products are below a hundredth and left out, and so is
what little need not go back at all: the layers before the first adapter. Gradient checkpointing adds a forward.
"""

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.evaluate import SamplerConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.config.train import TrainConfig
from prefopt.distributed.memory import has_live_reference
from prefopt.models.size import UNetSize, unet_size
from prefopt.planning.amounts import Item, Write, some
from prefopt.planning.flops import Flops, ForwardCosts

_AVERAGES = 2
_MINORITY_BYTES = 75
"""Of one visit's row in minority.parquet."""
_VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def train_work(config: RunConfig, costs: ForwardCosts, *, visits: int) -> tuple[tuple[Item, ...], list[Write]]:
    """What training does and writes: both images of every visit through the policy, the reference and the averages."""
    train, images = config.train, 2 * visits
    flops, precision = costs.mean_unet(config.score.sizes), train.precision
    live, averages = has_live_reference(train), _AVERAGES * has_averages(train)
    ahead = images * _looks_ahead(train) * (1 + averages + live)
    items = some(
        Item("UNet forwards and backwards of the policy", images, policy_flops(flops, train), precision),
        Item("UNet forwards of the reference", images * live, flops.total, precision),
        Item("UNet forwards of the slow and fast averages", images * averages, flops.total, precision),
        Item("UNet forwards to look ahead at each step's pairs", ahead, flops.total, precision),
        Item("prompts through the text encoders", visits, costs.prompt, precision),
        *_refreshed(config, costs),
        *_watched(train, costs),
    )
    size = unet_size(costs.empty_unet, train.lora)
    checkpoint, saves = checkpoint_bytes(size, train), -(-train.steps // train.checkpoint_every)
    model = 4.0 * (size.lora if train.method == "lora" else size.total + costs.frozen_parameters)
    writes = [
        Write(f"{saves} checkpoints of {checkpoint / 1e9:.2f} GB", saves * checkpoint, "run"),
        Write("the tuned model", model, "run"),
        Write("minority metric of each visit", visits * _MINORITY_BYTES * bool(averages), "run"),
    ]
    return items, [write for write in writes if write.nbytes]


def policy_flops(forward: Flops, train: TrainConfig) -> int:
    """Forward and backward of the policy for one image, with what gradient checkpointing computes again."""
    backward = forward.weights + 2 * forward.attention if train.method == "lora" else 2 * forward.total
    return forward.total * (2 if train.gradient_checkpointing else 1) + backward


def checkpoint_bytes(size: UNetSize, train: TrainConfig) -> float:
    """Of one checkpoint: the trained weights, their float32 master copy where they are shorter, the optimizer's state,
    and the averages in float32. Adafactor's state is small."""
    trained = size.lora if train.method == "lora" else size.total
    width = _VALUE_BYTES[train.precision]
    master = 4 if width < 4 else 0
    moments = 8 if train.optimizer.name == "adamw" else 0
    return float(trained) * (width + master + moments + 4 * _AVERAGES * has_averages(train))


def has_averages(train: TrainConfig) -> bool:
    """Whether the policy's averages judge each pair."""
    return isinstance(train.objective, AdaptiveParams) and train.objective.u.source != "offline"


def _looks_ahead(train: TrainConfig) -> bool:
    """Whether each step first passes over its whole batch without gradient."""
    return isinstance(train.objective, AdaptiveParams) and train.objective.u.normalise == "global"


def _watched(train: TrainConfig, costs: ForwardCosts) -> tuple[Item, ...]:
    """Images of the paired evaluation while training: the start's once, the policy's each time."""
    watched = train.health.evaluation
    if watched is None:
        return ()
    return image_items(costs, watched.sampler, watched.prompts * (1 + train.steps // watched.every), train.precision)


def _refreshed(config: RunConfig, costs: ForwardCosts) -> tuple[Item, ...]:
    """Visits that the policy inverts again: those of each measurement, and all where `above` is 0.

    How many another threshold lets through nobody knows beforehand: those are left out.
    """
    settings, train = config.train.refresh, config.train
    if settings is None:
        return ()
    measured = -(-train.steps // settings.every) * settings.visits
    visits = measured + train.steps * train.global_batch * (settings.above == 0.0)
    forwards = config.score.visits.steps * (1 + config.score.visits.renoise_steps)
    flops = costs.mean_unet(config.score.sizes).total
    return (Item("UNet forwards to invert visits again", 2 * visits * forwards, flops, train.precision),)


def image_items(
    costs: ForwardCosts, sampler: SamplerConfig, images: float, precision: str = "fp32"
) -> tuple[Item, ...]:
    """Drawing images: with guidance above 1 each step asks the UNet twice, with the prompt and without."""
    asked, size = 2 if sampler.guidance > 1.0 else 1, Size.square(sampler.resolution)
    return (
        Item(
            "UNet forwards to draw images",
            images * sampler.steps * asked,
            costs.unet(size).total,
            precision,
        ),
        Item("images through the VAE's decoder", images, costs.decode(size), precision),
        Item("prompts of images through the text encoders", images * asked, costs.prompt, precision),
    )
