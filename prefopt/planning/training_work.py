"""The work of the train stage.

A forward of one image is F = W + A FLOPs: products with weights, and products of activations (attention). A backward
pass forms the gradients of both factors of a product: 2 F. Where a weight is frozen only the activation's gradient is
formed, so LoRA's backward pass is W + 2 A. The adapters' own products are below a hundredth and left out, and so is
what little need not go back at all: the layers before the first adapter. Gradient checkpointing adds a forward.
"""

from prefopt.config import RunConfig
from prefopt.config.base import VALUE_BYTES, Size
from prefopt.config.evaluate import SamplerConfig
from prefopt.config.objective import AdaptiveParams
from prefopt.config.train import TrainConfig
from prefopt.distributed.memory import has_averages, has_live_reference, has_master, optimizer_values, trained_weights
from prefopt.models.size import UNetSize, unet_size
from prefopt.objectives import OBJECTIVES
from prefopt.planning.amounts import Item, Write, some
from prefopt.planning.flops import Flops, ForwardCosts

_AVERAGES = 2
_FLOAT32 = VALUE_BYTES["fp32"]
REFERENCE_BYTES = 45
"""Of one visit's reference errors."""
_MINORITY_BYTES = 75
"""Of one visit's row in minority.parquet."""


def train_work(config: RunConfig, costs: ForwardCosts, *, visits: int) -> tuple[tuple[Item, ...], list[Write]]:
    """What training does and writes: both images of every visit through the policy, the reference and the averages."""
    train, images = config.train, 2 * visits
    flops, precision = costs.mean_unet(config.score.sizes), train.precision
    live, averages = has_live_reference(train), _AVERAGES * has_averages(train)
    ahead = images * _looks_ahead(train)
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
    writes = [
        Write(f"{saves} checkpoints of {checkpoint / 1e9:.2f} GB", saves * checkpoint, "run"),
        Write("the tuned model", model_bytes(size, costs, train), "run"),
        *_stored_again(config, costs),
        Write("minority metric of each visit", visits * _MINORITY_BYTES * bool(averages), "run"),
    ]
    return items, [write for write in writes if write.nbytes]


def policy_flops(forward: Flops, train: TrainConfig) -> int:
    """Forward and backward of the policy for one image, with what gradient checkpointing computes again."""
    backward = forward.weights + 2 * forward.attention if train.method == "lora" else 2 * forward.total
    return forward.total * (2 if train.gradient_checkpointing else 1) + backward


def checkpoint_bytes(size: UNetSize, train: TrainConfig) -> float:
    """Of one checkpoint: the trained weights, the optimizer's float32 copy of them (none in fp32 at ZeRO 0) and its
    state, and the averages in float32. ZeRO 3 stores the weights as the optimizer's copy alone. `zero: auto` counts
    as ZeRO 1."""
    trained, zero = trained_weights(size, train), 1 if train.zero == "auto" else train.zero
    width = VALUE_BYTES[train.precision] if zero < 3 else 0
    master = _FLOAT32 * has_master(train, zero)
    averages = _FLOAT32 * _AVERAGES * has_averages(train)
    return float(trained * (width + master + averages) + _FLOAT32 * optimizer_values(size, train))


def model_bytes(size: UNetSize, costs: ForwardCosts, train: TrainConfig) -> float:
    """Of the tuned model: an adapter in float32, or the UNet in `precision` with the pipeline's other parts in
    float32."""
    if train.method == "lora":
        return float(_FLOAT32 * size.lora)
    return float(VALUE_BYTES[train.precision] * size.total + _FLOAT32 * costs.frozen_parameters)


def _looks_ahead(train: TrainConfig) -> bool:
    """Whether each step first passes over its whole batch without gradient, for figures of all its pairs."""
    objective = train.objective
    whole_batch = isinstance(objective, AdaptiveParams) and objective.u.normalise == "global"
    return whole_batch or bool(OBJECTIVES[objective.name].means)


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
    again = _inverted_again(config)
    forwards = config.score.visits.steps * (1 + config.score.visits.renoise_steps)
    flops, cached = costs.mean_unet(config.score.sizes).total, train.reference == "cached"
    return (
        Item("UNet forwards to invert visits again", 2 * (measured + again) * forwards, flops, train.precision),
        Item("UNet forwards for their reference errors", 2 * again * cached, flops, train.precision),
    )


def _inverted_again(config: RunConfig) -> int:
    settings, train = config.train.refresh, config.train
    return train.steps * train.global_batch if settings and settings.above == 0.0 else 0


def _stored_again(config: RunConfig, costs: ForwardCosts) -> list[Write]:
    again, latent = _inverted_again(config), costs.mean_latent_bytes(config.score)
    cached = config.train.reference == "cached"
    return [
        Write("latents inverted again", 2 * again * latent, "store"),
        Write("their reference errors", again * cached * REFERENCE_BYTES, "store"),
    ]


def image_items(
    costs: ForwardCosts, sampler: SamplerConfig, images: float, precision: str = "fp32"
) -> tuple[Item, ...]:
    """Drawing images: with guidance above 1 each step asks the UNet twice, with the prompt and without.
    PNDM takes one step more than it is given."""
    asked, size = 2 if sampler.guidance > 1.0 else 1, Size.square(sampler.resolution)
    steps = sampler.steps + (sampler.scheduler == "pndm" and sampler.steps > 1)
    return (
        Item(
            "UNet forwards to draw images",
            images * steps * asked,
            costs.unet(size).total,
            precision,
        ),
        Item("images through the VAE's decoder", images, costs.decode(size), precision),
        Item("prompts of images through the text encoders", images * asked, costs.prompt, precision),
    )
