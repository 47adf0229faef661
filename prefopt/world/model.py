"""The world's Stable Diffusion model in diffusers format: how it is built (prefopt)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefopt.world.scenes import SIZE, all_prompts

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

LATENT_CHANNELS = 4
LATENT_SIZE = 8
MAX_TOKENS = 16
TEXT_WIDTH = 64
START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merge rules of the world's tokenizer.

    Every byte has a token, so any text can be written; every word of a caption is one token.
    """
    alphabet = _byte_alphabet()
    words = sorted({word for prompt in all_prompts() for word in prompt.text.split()})
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    merges: list[str] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        merged = pieces[0]
        for piece in pieces[1:]:
            rule = f"{merged} {piece}"
            merged += piece
            if rule not in merges:
                merges.append(rule)
                tokens.append(merged)
    tokens += [START_TOKEN, END_TOKEN]
    return {token: index for index, token in enumerate(tokens)}, merges


def _byte_alphabet() -> list[str]:
    """One printable character per byte, as byte-level BPE writes them (GPT-2, Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(hidden))]


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer whose vocabulary is the world's."""
    from transformers import CLIPTokenizer

    vocab, merges = vocabulary()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        tokenizer = CLIPTokenizer.from_pretrained(
            folder,
            model_max_length=MAX_TOKENS,
            bos_token=START_TOKEN,
            eos_token=END_TOKEN,
            unk_token=END_TOKEN,
            pad_token=END_TOKEN,
        )
    return tokenizer


def build_pipeline(seed: int) -> StableDiffusionPipeline:
    """An untrained pipeline of real components whose weights follow from the seed.

    Images are 32x32, latents [4, 8, 8]; the global random state is left as it was.
    """
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = build_tokenizer()
    end = tokenizer.convert_tokens_to_ids(END_TOKEN)
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.convert_tokens_to_ids(START_TOKEN),
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(text_config)
        vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=LATENT_CHANNELS,
            block_out_channels=(16, 32, 32),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            sample_size=SIZE,
        )
        unet = UNet2DConditionModel(
            sample_size=LATENT_SIZE,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            block_out_channels=(32, 64),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
        )
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
