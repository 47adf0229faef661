"""Content ids, and randomness that belongs to rows: never to a worker, a shard or an order."""

import hashlib
import json
from typing import Any

import numpy as np

ID_CHARS = 32


def digest(*parts: str | bytes) -> str:
    """32 hex digits (128 bits of sha256) over length-prefixed parts, so that no two lists of parts collide."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()[:ID_CHARS]


def canonical_hash(value: Any) -> str:
    """sha256 of a JSON-able value, free of dictionary order and platform."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def image_id(image_bytes: bytes) -> str:
    """The id of an image: a hash of its encoded bytes."""
    return digest("image", image_bytes)


def prompt_id(prompt: str) -> str:
    """The id of a prompt as written."""
    return digest("prompt", prompt)


def pair_id(prompt: str, image_a: str, image_b: str) -> str:
    """The id of a pair of images under a prompt; the images' order does not matter."""
    return digest("pair", prompt, *sorted((image_a, image_b)))


def vote_id(pair: str, annotator: str, event: str) -> str:
    """The id of one vote; `event` tells apart several votes of one annotator on one pair."""
    return digest("vote", pair, annotator, event)


def normalised_prompt(prompt: str) -> str:
    """The prompt as splits see it: case, spacing and a trailing full stop do not move a pair between splits."""
    return " ".join(prompt.casefold().split()).rstrip(" .")


def row_uniform(seed: int, purpose: str, *row: str | int) -> float:
    """A number in [0, 1) that is a function of (seed, purpose, row) alone."""
    return int(digest(str(seed), purpose, *map(str, row))[:13], 16) / 16**13


def prompt_place(prompt: str, order: int = 0) -> float:
    """Where a prompt stands in a fixed order, by default that from which `limit` and evaluation take their first
    prompts."""
    return row_uniform(order, "prompt order", normalised_prompt(prompt))


def prompt_order(prompt: str, order: int = 0) -> tuple[float, str]:
    """What to sort prompts by for that order; prompts of one place stand in the order of their texts."""
    return prompt_place(prompt, order), prompt


def row_rng(seed: int, purpose: str, *row: str | int) -> np.random.Generator:
    """A generator that is a function of (seed, purpose, row) alone."""
    key = int(digest(str(seed), purpose, *map(str, row)), 16)
    return np.random.Generator(np.random.Philox(key=key))


def row_normal(shape: tuple[int, ...], seed: int, purpose: str, *row: str | int) -> np.ndarray:
    """Standard normal float32 noise of a given shape, a function of (seed, purpose, row) alone."""
    return row_rng(seed, purpose, *row).standard_normal(shape, dtype=np.float32)
