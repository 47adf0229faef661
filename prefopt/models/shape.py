"""The latent shape of a model, from its configs alone."""

from diffusers import AutoencoderKL, UNet2DConditionModel

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.diffusion.regularise import PATCH
from prefopt.errors import ConfigError, InputError
from prefopt.models.identity import model_directory
from prefopt.models.loading import reading, vae_place


def latent_shape(config: RunConfig, size: Size) -> tuple[int, int, int]:
    """(channels, height, width) of a latent of an image of this size.

    Raises InputError if the model cannot be found or `model.vae` does not fit it, ConfigError if a side is not a
    multiple of the VAE's factor, or of what noise regularisation needs.
    """
    model = config.model
    with reading(f"the model {model.path!r}"):
        unet = UNet2DConditionModel.load_config(model_directory(model), subfolder="unet", revision=model.revision)
    with reading(f"the VAE of {model.path!r}" if model.vae is None else f"the VAE {model.vae!r} (model.vae)"):
        vae = AutoencoderKL.load_config(**vae_place(model))
    if vae["latent_channels"] != unet["in_channels"]:
        raise InputError(
            f"The VAE makes latents of {vae['latent_channels']} channels, the UNet of {model.path!r} takes"
            f" {unet['in_channels']}: choose another model.vae."
        )
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    _check(config, size, factor, "the VAE's factor")
    if config.score.visits.regularisation:
        _check(config, size, factor * PATCH, "what score.visits.regularisation works on")
    return int(unet["in_channels"]), size.height // factor, size.width // factor


def _check(config: RunConfig, size: Size, step: int, what: str) -> None:
    near = Size(*(max(step, round(side / step) * step) for side in size))
    if near == size:
        return
    if config.score.buckets:
        raise ConfigError(
            f"score.buckets {list(size)}: both sides must be multiples of {step}, {what}. Take {list(near)}."
        )
    raise ConfigError(f"score.resolution {size.height} is not a multiple of {step}, {what}. Take {near.height}.")
