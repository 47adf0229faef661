"""Is it learning: what is watched while training, and what happens when it goes wrong."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch, Count, Positive
from prefopt.config.evaluate import SamplerConfig


class PairedEvaluationConfig(Branch):
    """Images of a few fixed validation prompts from the policy and its start, with the same noise, now and then."""

    every: Count = 100
    """Optimizer steps between two evaluations."""
    prompts: Count = 8
    reward: str
    """Who judges. Better another reward than the one that judges the run in the end."""
    sampler: SamplerConfig = SamplerConfig(steps=20)
    """Its `resolution` is by default that of training, `score.resolution`."""


class HealthConfig(Branch):
    """What is watched. Part of the key: verdicts lie beside the tuned model."""

    window: Count = 50
    """Optimizer steps that a verdict looks back on."""
    timestep_buckets: Count = 5
    """Equal parts of the timesteps for which accuracy is told apart."""
    evaluation: PairedEvaluationConfig | None = None

    def drawing_at(self, resolution: int) -> "HealthConfig":
        """The same, with images of `resolution` where the sampler names none of its own."""
        if self.evaluation is None or "resolution" in self.evaluation.sampler.model_fields_set:
            return self
        sampler = self.evaluation.sampler.model_copy(update={"resolution": resolution})
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update={"sampler": sampler})})


class GuardConfig(Branch):
    """What training does by itself when a verdict is bad. Part of the key: it changes the tuned model."""

    skipped_steps: Count = 5
    """Stop after so many optimizer steps in a row that were skipped because they were not finite. In fp16 up to 17
    in a row that only lower the loss scale do not count."""
    action: Literal["none", "pause", "lower_rate", "roll_back"] = "none"
    """After the verdict `collapsed` or `budget exceeded`: nothing; stop with a checkpoint (exit code 4); go on with
    a smaller learning rate; or go back to the newest checkpoint that the last good verdict vouches for (older than that
    verdict's step), with a smaller learning rate."""
    rate_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """The learning rate is multiplied by it."""
    most: Count = 3
    """Stop (exit code 4) when the action has been taken so often."""
    budget: Positive | None = 0.1
    """The winner's error may rise above the reference's by this share before the budget counts as exceeded."""
