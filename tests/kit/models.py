"""Tiny random models in diffusers format, in the layouts of SD1.5 and SDXL."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from prefopt.config.base import Size
from prefopt.models.families import Conditioning, Pipeline, encode_prompts
from prefopt.world.model import build_tokenizer

LATENT_SHAPE = (4, 8, 8)
RESOLUTION = 32
SIZE = Size.square(RESOLUTION)
TOKENS = 16
WIDTH = 32
WIDTHS = (12, 20)
"""Of SDXL's two text encoders."""
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def tiny_unet(seed: int = 0) -> UNet2DConditionModel:
    """SD1.5's UNet, with 0.2 M random parameters on latents [4, 8, 8]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=LATENT_SHAPE[1],
            in_channels=LATENT_SHAPE[0],
            out_channels=LATENT_SHAPE[0],
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
        ).eval()


def tiny_sdxl_unet(seed: int = 0) -> UNet2DConditionModel:
    """SDXL's UNet, with 0.1 M random parameters on latents [4, 8, 8]."""
    time_width = 8
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=LATENT_SHAPE[1],
            in_channels=LATENT_SHAPE[0],
            out_channels=LATENT_SHAPE[0],
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            attention_head_dim=(1, 2),
            cross_attention_dim=sum(WIDTHS),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=time_width,
            projection_class_embeddings_input_dim=6 * time_width + WIDTHS[1],
        ).eval()


def tiny_vae(seed: int = 0, scaling_factor: float = 0.18215) -> AutoencoderKL:
    """A random VAE from 32x32 images to latents [4, 8, 8]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _vae(scaling_factor)


def tiny_pipeline(directory: Path, seed: int = 0, *, prediction_type: str = "epsilon") -> Path:
    """Write a random SD1.5 pipeline for 32x32 images; returns the directory."""
    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        text_encoder = CLIPTextModel(_text_config(tokenizer, WIDTH, layers=1))
        vae = _vae(0.18215)
    scheduler = DDIMScheduler(**_NOISE, clip_sample=False, set_alpha_to_one=False, prediction_type=prediction_type)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=tiny_unet(seed),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(str(directory))
    return directory


def tiny_sdxl_pipeline(directory: Path, seed: int = 0, *, prediction_type: str = "epsilon") -> Path:
    """Write a random SDXL pipeline for 32x32 images; returns the directory. Its tokenizers pad with other tokens."""
    tokenizer, tokenizer_2 = build_tokenizer(), build_tokenizer()
    tokenizer_2.pad_token = "!"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        text_encoder = CLIPTextModel(_text_config(tokenizer, WIDTHS[0], layers=2))
        text_encoder_2 = CLIPTextModelWithProjection(_text_config(tokenizer, WIDTHS[1], layers=2))
        vae = _vae(0.13025)
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=tiny_sdxl_unet(seed),
        scheduler=EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading", prediction_type=prediction_type),
        add_watermarker=False,
    ).save_pretrained(str(directory))
    return directory


def conditioning_of(pipeline: Pipeline, prompts: Sequence[str], size: Size = SIZE) -> Conditioning:
    """What a UNet is told of prompts, for images that had this size from the start."""
    return encode_prompts(pipeline, prompts).sized(np.array([[*size, 0, 0, *size]] * len(prompts)))


TINY: dict[str, Callable[..., Path]] = {"sd15": tiny_pipeline, "sdxl": tiny_sdxl_pipeline}
"""What writes a tiny model of each family."""


def _vae(scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=LATENT_SHAPE[0],
        block_out_channels=(8, 8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=RESOLUTION,
        scaling_factor=scaling_factor,
    )


def _text_config(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    end = tokenizer.eos_token_id
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
