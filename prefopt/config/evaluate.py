"""How the tuned model is compared with its base."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from prefopt.config.base import Branch, Count, Range
from prefopt.config.features import FeaturesConfig, VaeFeatures
from prefopt.config.prompts import HeldoutPrompts, PromptSetConfig
from prefopt.config.protocols import ProtocolName, with_protocol


class SamplerConfig(Branch):
    """Image generation."""

    scheduler: Literal["ddim", "dpmsolver++", "pndm", "euler", "own"] = "ddim"
    """None has randomness of its own. `own`: that of each model's scheduler config, if it is one of these."""
    steps: Count = 50
    guidance: Annotated[float, Field(ge=0.0)] = 7.5
    resolution: Count = 512


class BootstrapConfig(Branch):
    """Percentile bootstrap, clustered by prompt."""

    resamples: Annotated[int, Field(ge=100)] = 2000
    level: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class AccuracyConfig(Branch):
    """Implicit accuracy of the tuned model on held-out pairs."""

    pairs: Annotated[int, Field(ge=0)] = 512
    """At most so many pairs of the split; 0 leaves the measurement out."""
    draws: Count = 4
    """Timesteps and noises per pair."""
    timestep_range: Range = (0.0, 1.0)
    """Part of the schedule from which timesteps are drawn, uniformly; 0 is clean, 1 is noise."""


class NegativeConfig(Branch):
    """Diffusion-NPO (arXiv 2505.11245): a model tuned on reversed pairs takes guidance's unconditional branch.

    Its weights there are base + positive_share (tuned - base) + negative_share (negative - base).
    """

    weights_from: str
    """The negative model, tuned with `labels.reverse`: an earlier run's directory, a model, LoRA weights, a hub id."""
    positive_share: Annotated[float, Field(ge=0.0)] = 1.0
    """The public code's 1 - merge_weight; published: 1 for SD1.5 and SDXL."""
    negative_share: Annotated[float, Field(ge=0.0)] = 1.0


ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
BASE, TUNED = "base", "tuned"
"""The names of the models that every run evaluates."""
CHAMPION = "champion"
"""The name that a night of retraining gives to the model which it may replace."""

OUTSIDE_KEYS = frozenset({"allow_training_rewards"})
"""Fields of EvaluateConfig that no result depends on: they enter neither keys nor reports."""
PLACES: dict[str, Any] = {
    "models": True,
    "negative": {"weights_from"},
    "prompt_sets": {"__all__": {"path"}},
    "features": {"weights"},
}
"""Fields of EvaluateConfig that name weights or files: their digests enter keys in their stead."""


class EvaluateConfig(Branch):
    """Images, scores, win rates, report."""

    split: Literal["test", "validation"] = "test"
    """Whose prompts and pairs are held out. Choose settings on `validation`; report `test`."""
    prompt_sets: Annotated[tuple[PromptSetConfig, ...], Field(min_length=1)] = (HeldoutPrompts(kind="heldout"),)
    """What is drawn. Figures are reported per set, and the headline over all; a prompt of two sets is drawn once."""
    models: dict[ModelName, str] = Field(default_factory=dict)
    """More models to compare with the base, by the names that reports give them: a hub id, a directory with a model in
    diffusers format or with LoRA weights, an earlier run. They draw from the same noise."""
    protocol: ProtocolName | None = None
    """Settings of a published evaluation, docs/evaluation.md: defaults of `sampler`, `samples_per_prompt`, `seed`,
    `ties` and `average`, which keys of this branch override."""
    samples_per_prompt: Count = 1
    seed: int = 0
    sampler: SamplerConfig = SamplerConfig()
    negative: NegativeConfig | None = None
    """Draw the tuned model's images with a negative model."""
    rewards: Annotated[tuple[str, ...], Field(min_length=1)]
    """The first is the headline. It must not be a reward that labels or scores the training pairs."""
    allow_training_rewards: bool = False
    """Judge with a reward that also labels or scores training pairs, knowing what that means."""
    ties: Literal["half", "nobody"] = "half"
    """Equal scores count half for each model, or for nobody (several published protocols)."""
    average: Literal["mean", "median"] = "mean"
    """What report.md shows of scores. report.html and metrics.json hold both."""
    bootstrap: BootstrapConfig = BootstrapConfig()
    accuracy: AccuracyConfig = AccuracyConfig()
    features: FeaturesConfig | None = VaeFeatures()
    """What diversity and distance from the base are measured by; null measures neither."""
    batch: Count = 32
    """Images per generation batch: fixed and padded."""
    unit_prompts: Count = 64
    """Prompts per work unit."""
    grid_prompts: Count = 12
    """Prompts shown side by side in the report."""

    @model_validator(mode="before")
    @classmethod
    def _protocol_gives_defaults(cls, branch: Any) -> Any:
        return with_protocol(branch) if isinstance(branch, dict) else branch

    @field_validator("models")
    @classmethod
    def _names_are_free(cls, models: dict[str, str]) -> dict[str, str]:
        taken = sorted(models.keys() & {BASE, TUNED})
        if taken:
            raise ValueError(f"{' and '.join(taken)} mean models of the run itself: choose other names")
        return models

    @field_validator("prompt_sets")
    @classmethod
    def _names_are_distinct(cls, sets: tuple[PromptSetConfig, ...]) -> tuple[PromptSetConfig, ...]:
        names = [chosen.name for chosen in sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two prompt sets have one name: {', '.join(names)}. Give each a name of its own")
        return sets

    @property
    def draws_heldout(self) -> bool:
        """Whether the run's held-out prompts are among the sets."""
        return any(chosen.kind == "heldout" for chosen in self.prompt_sets)

    @model_validator(mode="after")
    def _a_negative_is_guided_by(self) -> "EvaluateConfig":
        if self.negative and self.sampler.guidance <= 1.0:
            raise ValueError("negative needs sampler.guidance above 1: else no unconditional branch is asked")
        return self
