"""The latent shape of a model, from its configs alone."""

from diffusers import AutoencoderKL, UNet2DConditionModel

from prefopt.config import RunConfig
from prefopt.errors import ConfigError, InputError
from prefopt.models.identity import model_directory


def latent_shape(config: RunConfig) -> tuple[int, int, int]:
    """(channels, height, width) of a latent at the score resolution.

    Raises InputError if the model cannot be found, ConfigError if the resolution is not a multiple of the VAE's factor.
    """
    place = {"pretrained_model_name_or_path": model_directory(config.model), "revision": config.model.revision}
    try:
        unet = UNet2DConditionModel.load_config(subfolder="unet", **place)
        vae = AutoencoderKL.load_config(subfolder="vae", **place)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot load the model {config.model.path!r}: {' '.join(str(error).split())}") from None
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    resolution = config.score.resolution
    if resolution % factor:
        raise ConfigError(f"score.resolution {resolution} is not a multiple of the VAE's factor {factor}.")
    return int(unet["in_channels"]), resolution // factor, resolution // factor
