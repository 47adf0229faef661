"""The latent shape of a model, from its configs alone."""

from diffusers import AutoencoderKL, UNet2DConditionModel

from prefopt.config import RunConfig
from prefopt.errors import ConfigError, InputError
from prefopt.models.identity import model_directory
from prefopt.models.loading import reading, vae_place


def latent_shape(config: RunConfig) -> tuple[int, int, int]:
    """(channels, height, width) of a latent at the score resolution.

    Raises InputError if the model cannot be found or `model.vae` does not fit it, ConfigError if the resolution is
    not a multiple of the VAE's factor.
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
    resolution = config.score.resolution
    if resolution % factor:
        raise ConfigError(f"score.resolution {resolution} is not a multiple of the VAE's factor {factor}.")
    return int(unet["in_channels"]), resolution // factor, resolution // factor
