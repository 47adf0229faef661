"""FLOPs of one forward of a model's parts, counted on the meta device from their configs alone.

A multiplication and an addition are two FLOPs. torch counts the products (convolutions, linear layers, attention);
norms, activation functions and sums are left out, as is usual.
"""

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.config.score import ScoreConfig
from prefopt.models.families import Conditioning, model_family, predict
from prefopt.models.identity import model_directory
from prefopt.models.loading import reading, vae_place
from prefopt.models.size import empty_unet

REWARD_FLOPS = 0.38e12
"""Of one score by a reward model of the CLIP ViT-H/14 class (PickScore, HPSv2), an estimate for all that are not the
embedded world's: image tower at 224 px 0.335e12, text tower at 77 tokens 0.047e12."""
LATENT_BYTES = {"float16": 2, "float32": 4}
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
_TIME_IDS = 6


@dataclass(frozen=True)
class Flops:
    """Of one forward of one image, by what is multiplied."""

    weights: int
    """Products of activations with weights: convolutions and linear layers."""
    attention: int
    """Products of activations with activations."""

    @property
    def total(self) -> int:
        """Of the whole forward."""
        return self.weights + self.attention


def count_flops(call: Callable[[], object]) -> Flops:
    """FLOPs of what a call computes, on any device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    by_operation = counter.get_flop_counts()["Global"]
    attention = sum(count for name, count in by_operation.items() if _multiplies_activations(str(name)))
    return Flops(weights=counter.get_total_flops() - attention, attention=attention)


def _multiplies_activations(operation: str) -> bool:
    return "bmm" in operation or "attention" in operation


def unet_inputs(
    unet: UNet2DConditionModel, height: int, width: int, tokens: int
) -> tuple[Tensor, Tensor, Conditioning]:
    """Zeros for one image on the current default device: latents, timestep, and what the UNet is told."""
    config: Any = unet.config
    latents = torch.zeros(1, config.in_channels, height, width)
    states = torch.zeros(1, tokens, config.cross_attention_dim)
    if config.addition_embed_type != "text_time":
        return latents, torch.zeros(1, dtype=torch.int64), Conditioning(states)
    pooled = config.projection_class_embeddings_input_dim - _TIME_IDS * config.addition_time_embed_dim
    told = Conditioning(states, torch.zeros(1, pooled), torch.zeros(1, _TIME_IDS))
    return latents, torch.zeros(1, dtype=torch.int64), told


class ForwardCosts:
    """A model's parts without their weights: sizes, and FLOPs per forward. Nothing but configs is read."""

    def __init__(self, model: ModelConfig) -> None:
        """InputError if a config is missing, cannot be read, or is of an unknown family."""
        self.family = model_family(model).name
        self.empty_unet = empty_unet(model)
        self._vae = _empty_vae(model)
        self._texts = _empty_text_encoders(model)
        self.tokens: int = min(encoder.config.max_position_embeddings for encoder in self._texts)
        self.factor: int = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self.channels: int = self.empty_unet.config.in_channels

    @property
    def text_parameters(self) -> int:
        """Parameters of all text encoders."""
        return sum(_parameters(encoder) for encoder in self._texts)

    @property
    def frozen_parameters(self) -> int:
        """Parameters of all parts but the UNet."""
        return self.text_parameters + _parameters(self._vae)

    def latent_values(self, size: Size) -> int:
        """Numbers in the latent of an image of this size."""
        return self.channels * (size.height // self.factor) * (size.width // self.factor)

    def mean_latent_bytes(self, score: ScoreConfig) -> float:
        """Of a stored latent, over the images' sizes, as if each had as many."""
        return statistics.fmean(LATENT_BYTES[score.latent_dtype] * self.latent_values(size) for size in score.sizes)

    @functools.cache  # noqa: B019 - a plan makes few of these and ends soon
    def unet(self, size: Size) -> Flops:
        """One forward of the UNet for one image of this size."""
        height, width = (side // self.factor for side in size)
        with torch.device("meta"):
            given = unet_inputs(self.empty_unet, height, width, self.tokens)
        return count_flops(lambda: predict(self.empty_unet, *given))

    def mean_unet(self, sizes: Sequence[Size]) -> Flops:
        """`unet`, over images of which each size has as many."""
        forwards = [self.unet(size) for size in sizes]
        return Flops(
            weights=sum(forward.weights for forward in forwards) // len(sizes),
            attention=sum(forward.attention for forward in forwards) // len(sizes),
        )

    @functools.cache  # noqa: B019
    def encode(self, size: Size) -> int:
        """One image through the VAE's encoder."""
        with torch.device("meta"):
            pixels = torch.zeros(1, self._vae.config.in_channels, *size)
        return count_flops(lambda: self._vae.encode(pixels).latent_dist.mode()).total

    @functools.cache  # noqa: B019
    def decode(self, size: Size) -> int:
        """One latent through the VAE's decoder."""
        with torch.device("meta"):
            latents = torch.zeros(1, self.channels, *(side // self.factor for side in size))
        return count_flops(lambda: self._vae.decode(latents)).total

    @functools.cached_property
    def prompt(self) -> int:
        """One prompt through all text encoders."""
        with torch.device("meta"):
            ids = torch.zeros(1, self.tokens, dtype=torch.int64)
        return sum(count_flops(functools.partial(encoder, ids)).total for encoder in self._texts)


@functools.lru_cache(maxsize=4)
def forward_costs(model: ModelConfig) -> ForwardCosts:
    """The costs of a model, made once."""
    return ForwardCosts(model)


def _empty_vae(model: ModelConfig) -> AutoencoderKL:
    with reading(f"the VAE of {model.path!r}" if model.vae is None else f"the VAE {model.vae!r} (model.vae)"):
        config = AutoencoderKL.load_config(**vae_place(model))
    with torch.device("meta"):
        return AutoencoderKL.from_config(config).eval()


def _empty_text_encoders(model: ModelConfig) -> list[Any]:
    place = model_directory(model)
    with reading(f"the text encoders of {model.path!r}"):
        index = DiffusionPipeline.load_config(place, revision=model.revision)
        kinds = {part: index.get(part, (None, None))[1] for part in _TEXT_ENCODERS}
        return [_empty_text_encoder(model, part, kind) for part, kind in kinds.items() if kind]


def _empty_text_encoder(model: ModelConfig, part: str, kind: str) -> Any:
    encoder = getattr(transformers, kind)
    where = {"subfolder": part, "revision": model.revision}
    found, _ = encoder.config_class.get_config_dict(model_directory(model), **where)
    if not found:
        raise OSError(f"there is no {part}/config.json.")
    config = encoder.config_class.from_pretrained(model_directory(model), **where)
    with torch.device("meta"):
        return encoder(config).eval()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
