"""Kinds of costly rows, and how a row is called within its store: functions of ids alone."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from prefopt.data.ids import digest

LATENTS, INVERTED, REFERENCES, REWARDS, GENERATED = "x0", "inverted", "references", "rewards", "generated"
KINDS = (LATENTS, INVERTED, REFERENCES, REWARDS, GENERATED)
"""Directories of a store."""
_ROWS = 10_000


def reward_key(image: str, prompt: str) -> str:
    """The key of a reward within its store."""
    return digest("reward", image, prompt)


def reference_key(visit: Mapping[str, Any]) -> str:
    """The key of a visit's errors within their store."""
    fixed = [str(visit[name]) for name in ("t_0", "t_1", "flip_0", "flip_1", "drop_prompt")]
    return digest("reference", visit["visit_id"], *fixed)


def reference_keys(visits: pa.Table) -> list[str]:
    """The keys of visits' errors, in order."""
    return [reference_key(visit) for part in visits.to_batches(max_chunksize=_ROWS) for visit in part.to_pylist()]


def generated_key(prompt: str, sample: int) -> str:
    """The key of a model's image of a prompt."""
    return digest("generated", prompt, str(sample))
