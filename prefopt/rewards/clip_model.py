"""CLIP as several reward models use it: transformers' model, tokenizer and PIL image processor."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, CLIPVisionModelWithProjection

from prefopt.rewards.parts import Parts, read_with
from prefopt.rewards.state_dicts import fill, same_name

TEXT_TOKENS = 77
_PROMPTS = 8
"""Of a batch of the text side."""
_REMEMBERED = 1024
"""Prompts whose embeddings are kept."""
_POSITIONS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
"""Stored by older versions of transformers: 0, 1, 2, ..."""


class ImagePixels:
    """Images as a CLIP takes them: shorter side to 224 (bicubic), centre crop, mean and standard deviation."""

    def __init__(self, directory: Path) -> None:
        """InputError if preprocessor_config.json cannot be used."""
        self._process = read_with(CLIPImageProcessorPil.from_pretrained, directory / "preprocessor_config.json")

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """float32 [n, 3, side, side]."""
        pixels: Tensor = self._process(images=list(images), return_tensors="pt")["pixel_values"]
        return pixels


class TextTokens:
    """Prompts as a CLIP takes them: 77 tokens, start and end among them; what is longer is cut off."""

    def __init__(self, directory: Path) -> None:
        """InputError if vocab.json or merges.txt cannot be used."""
        vocabulary, merges = str(directory / "vocab.json"), str(directory / "merges.txt")
        self._tokenize = read_with(lambda _: CLIPTokenizer(vocab=vocabulary, merges=merges), directory / "vocab.json")

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """int64 [n, 77]. What follows the end token changes nothing: attention is causal."""
        tokens: Tensor = self._tokenize(
            list(prompts), padding="max_length", truncation=True, max_length=TEXT_TOKENS, return_tensors="pt"
        )["input_ids"]
        return tokens


def load_clip(parts: Parts, role: str) -> CLIPModel:
    """A CLIP in transformers' layout (config.json and weights), on the device. InputError as `fill`."""
    config = read_with(CLIPConfig.from_pretrained, parts.directory(role) / "config.json")
    model = fill(
        lambda: CLIPModel(config),
        parts.state_dict(role),
        same_name,
        ignored=_POSITIONS,
        what=f"Weights of {parts.name!r}",
    )
    scale = model.logit_scale.detach().float()
    parts.placed(model)
    model.logit_scale = nn.Parameter(scale.to(parts.device), requires_grad=False)  # in full precision: it is a factor
    return model


def load_clip_vision(parts: Parts, role: str) -> CLIPVisionModelWithProjection:
    """The image side alone of a CLIP in transformers' layout, on the device. InputError as `fill`."""
    config = read_with(CLIPConfig.from_pretrained, parts.directory(role) / "config.json")
    config.vision_config.projection_dim = config.projection_dim
    published = parts.state_dict(role)
    model = fill(
        lambda: CLIPVisionModelWithProjection(config.vision_config),
        published,
        same_name,
        ignored=_outside_vision(published),
        what=f"Backbone of {parts.name!r}",
    )
    parts.placed(model)
    return model


def image_features(model: nn.Module, pixels: Tensor) -> Tensor:
    """Normalised embeddings [n, d], float32."""
    clip: Any = model
    first = next(model.parameters())
    pooled = clip.vision_model(pixel_values=pixels.to(first.device, first.dtype)).pooler_output
    return _normalised(clip.visual_projection(pooled))


class PromptFeatures:
    """Embeddings of prompts, each computed once while it is remembered: pairs of one prompt mostly follow each other.

    The text side runs on batches of one fixed, padded size, so that what it gives does not depend on the company.
    """

    def __init__(self, model: CLIPModel, tokens: TextTokens) -> None:
        self._model, self._tokens = model, tokens
        self._known: dict[str, Tensor] = {}

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Normalised embeddings [n, d], float32."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        for start in range(0, len(missing), _PROMPTS):
            new = missing[start : start + _PROMPTS]
            tokens = self._tokens(new + new[-1:] * (_PROMPTS - len(new)))
            self._known |= dict(zip(new, text_features(self._model, tokens), strict=False))
        features = torch.stack([self._known[prompt] for prompt in prompts])
        self._known = dict(itertools.islice(self._known.items(), max(0, len(self._known) - _REMEMBERED), None))
        return features


def text_features(model: CLIPModel, tokens: Tensor) -> Tensor:
    """Normalised embeddings [n, d], float32."""
    pooled = model.text_model(input_ids=tokens.to(next(model.parameters()).device)).pooler_output
    return _normalised(model.text_projection(pooled))


def cosines(model: CLIPModel, pixels: Tensor, prompts: Tensor) -> Tensor:
    """The cosine [n] of each image's embedding and its prompt's (`PromptFeatures`), float32."""
    return (image_features(model, pixels) * prompts).sum(dim=-1)


def _normalised(features: Tensor) -> Tensor:
    return functional.normalize(features.float(), dim=-1)


def _outside_vision(published: Mapping[str, Tensor]) -> Collection[str]:
    """Names of a whole CLIP that its image side does not have. A file of other names is found by what it lacks."""
    others = {"logit_scale", "text_projection.weight", *_POSITIONS}
    return {name for name in published if name in others or name.startswith("text_model.")}
