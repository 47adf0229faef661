"""The whole config tree of one run."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from prefopt.config.alpha import PUBLISHED_RANGES
from prefopt.config.base import Branch, Count
from prefopt.config.card import CardConfig
from prefopt.config.cluster import ClusterConfig
from prefopt.config.evaluate import EvaluateConfig
from prefopt.config.gate import GateConfig
from prefopt.config.ingest import IngestConfig
from prefopt.config.inject import InjectConfig
from prefopt.config.labels import LabelsConfig
from prefopt.config.objective import AdaptiveParams, SmpoParams, WeightedDpoParams
from prefopt.config.prompts import PromptSetConfig
from prefopt.config.retrain import NightConfig, RetrainConfig
from prefopt.config.rewards import RewardsConfig
from prefopt.config.score import ScoreConfig
from prefopt.config.train import TrainConfig


class ModelConfig(Branch):
    """The base model: the start of the policy, the reference, and the base of every comparison."""

    path: str
    """A hub id, a local directory in diffusers format, or `world` for the embedded model."""
    revision: str | None = None
    """The hub revision; a commit hash makes the run reproducible."""
    vae: str | None = None
    """A VAE that takes the place of the model's own, as a hub id or a directory: for SDXL the one mended for fp16."""


class RunConfig(Branch):
    """One run: preference data in, an aligned model and a report out."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    seed: int = 0
    """Seeds everything that has no seed of its own."""
    store: str = "runs/store"
    """Append-only stores of costly rows, shared by runs: local or s3://."""
    limit: Count | None = None
    """Take only so many prompts, the first in hash order: the same in every stage."""
    model: ModelConfig
    ingest: IngestConfig = IngestConfig()
    inject: InjectConfig = InjectConfig()
    labels: LabelsConfig = LabelsConfig()
    rewards: RewardsConfig = RewardsConfig()
    score: ScoreConfig = ScoreConfig()
    card: CardConfig = CardConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig
    retrain: RetrainConfig = RetrainConfig()
    gate: GateConfig = GateConfig()
    night: NightConfig | None = None
    """Written by `prefopt retrain` alone."""
    cluster: ClusterConfig = ClusterConfig()

    @field_validator("train", mode="after")
    @classmethod
    def _paired_images_are_as_large_as_trained_ones(cls, train: TrainConfig, info: ValidationInfo) -> TrainConfig:
        score = info.data.get("score")
        if not isinstance(score, ScoreConfig):
            return train
        return train.model_copy(update={"health": train.health.drawing_at(score.resolution)})

    @property
    def prompt_sets(self) -> tuple[PromptSetConfig, ...]:
        """What an evaluation draws: of every set at most `limit` prompts."""
        if self.limit is None:
            return self.evaluate.prompt_sets
        return tuple(
            chosen.model_copy(update={"most": min(self.limit, chosen.most or self.limit)})
            for chosen in self.evaluate.prompt_sets
        )

    @model_validator(mode="after")
    def _objective_has_its_inputs(self) -> "RunConfig":
        objective = self.train.objective
        if isinstance(objective, SmpoParams) and self.score.alpha is None:
            raise ValueError("train.objective smpo needs score.alpha")
        if isinstance(objective, AdaptiveParams) and objective.u.source != "online" and self.score.panel is None:
            raise ValueError(f"train.objective.u.source {objective.u.source} needs score.panel")
        if isinstance(objective, WeightedDpoParams) and "margin" in objective.use:
            raise ValueError("train.objective.use margin: no stage makes margins; they are for the Python interface")
        return self

    @model_validator(mode="after")
    def _relabelling_has_a_panel(self) -> "RunConfig":
        if self.labels.relabel != "none" and self.score.panel is None:
            raise ValueError(f"labels.relabel {self.labels.relabel} needs score.panel")
        if self.labels.relabel == "majority_vote" and not (self.score.panel and self.score.panel.rewards):
            raise ValueError("labels.relabel majority_vote needs score.panel.rewards: they are the ones who vote")
        return self

    @model_validator(mode="after")
    def _published_ranges_are_known(self) -> "RunConfig":
        for name, member in self.score.alpha.members().items() if self.score.alpha else ():
            model = self.rewards.model(name)
            if member.normalise == "published" and (model is None or model.kind not in PUBLISHED_RANGES):
                raise ValueError(
                    f"score.alpha: normalise published is known for {', '.join(PUBLISHED_RANGES)} alone, not for"
                    f" {name}: choose scales, or give minimum and maximum under constants"
                )
        return self

    @model_validator(mode="after")
    def _refresh_has_inversions(self) -> "RunConfig":
        if self.train.refresh is None:
            return self
        if self.score.visits.inversion == "none":
            raise ValueError("train.refresh needs score.visits.inversion renoise: sampled noise does not grow stale")
        if self.score.visits.grid == "reference" and self.train.zero in (3, "auto"):
            raise ValueError(
                "train.refresh needs score.visits.grid exact at zero 3 and auto: on the other grid workers would ask a"
                " sharded model unequally often"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_has_data(self) -> "RunConfig":
        split = self.evaluate.split
        if self.evaluate.draws_heldout and getattr(self.ingest.split, split) == 0.0:
            raise ValueError(f"evaluate.split {split} needs ingest.split.{split} above 0")
        return self

    @model_validator(mode="after")
    def _rewards_are_distinct(self) -> "RunConfig":
        panel = self.score.panel.rewards if self.score.panel else ()
        alpha = tuple(self.score.alpha.members()) if self.score.alpha else ()
        for field, names in (
            ("score.panel.rewards", panel),
            ("score.alpha.rewards", alpha),
            ("evaluate.rewards", self.evaluate.rewards),
        ):
            if len({self.rewards.identity(name) for name in names}) < len(names):
                raise ValueError(f"{field} names a reward twice: {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _audit_is_apart(self) -> "RunConfig":
        audit = self.gate.audit
        if audit is None:
            return self
        if audit.reward not in self.evaluate.rewards[1:]:
            raise ValueError(
                f"gate.audit.reward {audit.reward!r} must be one of evaluate.rewards, and not the first: that one"
                " decides"
            )
        names = [chosen.name for chosen in self.evaluate.prompt_sets]
        if audit.prompt_set not in names or len(names) < 2:
            raise ValueError(
                f"gate.audit.prompt_set {audit.prompt_set!r} must be the name of one of at least two"
                f" evaluate.prompt_sets ({', '.join(names)}): the others decide"
            )
        return self

    @model_validator(mode="after")
    def _judge_is_independent(self) -> "RunConfig":
        judged = self.evaluate.rewards[0]
        used = [*self.score.reward_names(), *(f.reward for f in self.inject.flips if f.kind == "gap")]
        alike = {self.rewards.identity(name) for name in used}
        if self.rewards.identity(judged) in alike and not self.evaluate.allow_training_rewards:
            raise ValueError(
                f"evaluate.rewards[0] {judged!r} also labels or scores the training pairs: choose another"
                " first reward, or set evaluate.allow_training_rewards: true"
            )
        return self
