"""Prompt embeddings: each prompt is encoded once, in batches of a fixed shape, when it is first needed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prefopt.models.loading import encode_prompts

BATCH = 32
"""Prompts per text-encoder batch, padded: an embedding depends on the batch's size."""


class PromptEmbeddings:
    """Embeddings [tokens, width] of a list of prompts, and of the empty prompt."""

    def __init__(self, pipeline: Any, prompts: Sequence[str], dtype: torch.dtype) -> None:
        self._pipeline = pipeline
        self._prompts = ["", *prompts]
        self._dtype = dtype
        self._batches: dict[int, Tensor] = {}

    def get(self, indices: Sequence[int], empty: Sequence[bool]) -> Tensor:
        """Embeddings [B, tokens, width] of prompts by index; where `empty` is set, the empty prompt's."""
        return torch.stack([self._one(0 if drop else index + 1) for index, drop in zip(indices, empty, strict=True)])

    def _one(self, row: int) -> Tensor:
        batch, place = divmod(row, BATCH)
        if batch not in self._batches:
            prompts = self._prompts[batch * BATCH : (batch + 1) * BATCH]
            padded = prompts + [""] * (BATCH - len(prompts))
            self._batches[batch] = encode_prompts(self._pipeline, padded).to(self._dtype)
        return self._batches[batch][place]
