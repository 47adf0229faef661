"""The panel behind the offline minority metric: reward models, snapshots of policies, and people's votes."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Count, Positive, Range

PLACES = frozenset({"snapshots"})
"""Fields of PanelConfig that name weights: their digests enter keys in their stead."""


class PanelConfig(Branch):
    """The offline minority metric u over a panel: reward models, policy snapshots and people's votes."""

    rewards: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    """Policies as annotators: hub ids, directories (a model or LoRA weights) or earlier runs, as `train.init_from`
    names them. One prefers the image whose denoising error it lowers more, against `train.reference_from`. Costs
    2 x `snapshot_draws` UNet forwards a pair for each snapshot, and once for the reference."""
    snapshot_draws: Count = 4
    """Timesteps and noises per pair, one from each of as many equal parts of the range."""
    snapshot_range: Range = (0.0, 1.0)
    """From which to which share of the timesteps, 0 being the least noisy. Where the noise is weak, errors differ most
    and say least about an image: on the embedded world [0.5, 1.0] judges better (docs/results/minority.md)."""
    snapshot_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the pairs, chosen by hash, that snapshots judge. The others' u comes from the rest of the panel."""
    snapshot_seed: int = 0
    """Of the draws and of the choice."""
    crowd: bool = True
    """Let the votes of a pair that has at least `crowd_votes` of them act as one more annotator."""
    crowd_votes: Annotated[int, Field(ge=2)] = 2
    rho: Positive = 3.75
    """Scale of the annotator logits in RMS units (arXiv 2503.16921: 15 / sqrt(16))."""

    @model_validator(mode="after")
    def _can_judge_every_pair(self) -> Self:
        if len(self.rewards) + len(self.snapshots) < 2:
            raise ValueError("a panel needs two annotators at least among rewards and snapshots")
        if self.snapshots and self.snapshot_share < 1.0 and len(self.rewards) < 2:
            raise ValueError("snapshot_share below 1 needs two rewards: without them the other pairs would have no u")
        if len(set(self.snapshots)) < len(self.snapshots):
            raise ValueError(f"snapshots names one twice: {', '.join(self.snapshots)}")
        return self
