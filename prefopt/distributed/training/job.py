"""What the training workers are told: plain data that travel to them once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from prefopt.config import RunConfig
from prefopt.config.train import OUTSIDE_KEYS, PLACES
from prefopt.data.ids import canonical_hash
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.models.sources import TrainingWeights

PLAN = "plan.parquet"
PROMPTS = "prompts.parquet"
PAIRED = "paired.parquet"
MODEL = "model"

PLAN_SCHEMA = pa.schema(
    [
        *VISITS,
        pa.field("prompt", pa.int32()),
        pa.field("alpha", pa.float64()),
        pa.field("u", pa.float64()),
        pa.field("weight", pa.float64()),
    ]
)
"""The visits, each with its prompt's place in the list of prompts, and alpha, u and weight of its own label: P(the
winner is better), the minority metric of the label as it stands, and 1 - u. Null where the score stage made none."""


@dataclass(frozen=True)
class TrainingJob:
    """A training run over a prepared plan."""

    config: RunConfig
    weights: TrainingWeights
    vae_digest: str
    plan_digest: str
    output: Storage
    """The stage's directory: the model goes here."""
    work: Storage
    """Plan, finished segments and checkpoints; gone once the stage is done."""
    store: Storage
    logs: Storage
    zero_options: Mapping[str, Any] = field(default_factory=dict)
    """Added to DeepSpeed's `zero_optimization`."""

    @property
    def fingerprint(self) -> str:
        """Whatever decides the trajectory: a checkpoint of another fingerprint is never resumed from."""
        train = self.config.train.model_dump(mode="json", exclude=set(OUTSIDE_KEYS | PLACES))
        return canonical_hash(
            {
                "train": train,
                "seed": self.config.seed,
                **self.weights.digests,
                "vae": self.vae_digest,
                "plan": self.plan_digest,
                "visits": self.config.score.visits.model_dump(mode="json"),
                "latents": [self.config.score.latent_dtype, self.config.score.size_conditioning],
            }
        )
