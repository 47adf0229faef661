"""The base model's VAE latents, averaged to a grid of 8x8: layout and colour, with nothing to download (prefopt).

Latents need not be centred on zero, so that images with nothing in common may still have a cosine above zero: compare
figures of one VAE with each other alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from torch.nn import functional

from prefopt.models.loading import encode_images, image_pixels, moved

GRID = 8


class VaeEmbedder:
    """Rows of channels x 8 x 8 numbers, in float32. Images may have several sizes: each is encoded by itself, so that
    memory does not grow with the batch, and a row knows nothing of other images."""

    def __init__(self, vae: AutoencoderKL, device: str) -> None:
        self.name = "vae"
        self._vae = moved(vae, device, torch.float32)
        self._factor = 2 ** (len(vae.config.block_out_channels) - 1)

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 [n, d]. ValueError for an image smaller than the VAE's factor."""
        return np.stack([self._row(image) for image in images])

    @torch.inference_mode()
    def _row(self, image: Image.Image) -> np.ndarray:
        pixels: Tensor = torch.from_numpy(image_pixels(cut_to_multiple(image, self._factor)))[None]
        latents = encode_images(self._vae, pixels.to(self._vae.device))
        pooled = functional.adaptive_avg_pool2d(latents, GRID).flatten(1)
        row: np.ndarray = functional.normalize(pooled, dim=-1)[0].cpu().numpy()
        return row


def cut_to_multiple(image: Image.Image, factor: int) -> Image.Image:
    """The middle of an image whose sides are not multiples of `factor`, cut so that they are. ValueError if a side is
    smaller than `factor`."""
    width, height = (side // factor * factor for side in image.size)
    if not width or not height:
        raise ValueError(f"an image of {image.width}x{image.height} pixels is smaller than the VAE's factor {factor}")
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
