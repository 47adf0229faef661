"""Reward models by name."""

from prefopt.errors import ConfigError
from prefopt.rewards.base import Reward, RewardSpec, checked_scores
from prefopt.world import WORLD_VERSION
from prefopt.world.rewards import WORLD_REWARDS

__all__ = ["REWARDS", "Reward", "RewardSpec", "checked_scores", "reward_spec"]

REWARDS: dict[str, RewardSpec] = {
    name: RewardSpec(name, version=f"world {WORLD_VERSION}", load=load) for name, load in WORLD_REWARDS.items()
}
"""By name. Workers are handed the entry itself, so that one added in the driver serves them too."""


def reward_spec(name: str) -> RewardSpec:
    """The reward model with this name; ConfigError if there is none."""
    if name not in REWARDS:
        raise ConfigError(f"There is no reward model {name!r}. Known: {', '.join(sorted(REWARDS))}.")
    return REWARDS[name]
