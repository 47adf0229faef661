"""Reward models by name."""

from collections.abc import Iterable

from prefopt.config import RunConfig
from prefopt.config.rewards import PUBLISHED, EntryPointModel, HttpModel, RewardsConfig
from prefopt.errors import ConfigError
from prefopt.rewards.base import Resources, Reward, RewardSpec, UnscorableImageError, checked_scores
from prefopt.rewards.entry_points import entry_point_spec, registered
from prefopt.rewards.http import http_spec
from prefopt.rewards.published import published_spec, resources_of
from prefopt.world import WORLD_VERSION
from prefopt.world.rewards import WORLD_REWARDS

__all__ = [
    "REWARDS",
    "Resources",
    "Reward",
    "RewardSpec",
    "UnscorableImageError",
    "checked_scores",
    "reward_resources",
    "reward_spec",
    "reward_versions",
]

REWARDS: dict[str, RewardSpec] = {
    name: RewardSpec(name, version=f"world {WORLD_VERSION}", load=load) for name, load in WORLD_REWARDS.items()
}
"""Those that need nothing from outside, by name. Workers are handed the entry itself, so that one added in the driver
serves them too."""


def reward_spec(name: str, config: RunConfig | None = None) -> RewardSpec:
    """The reward model with this name, as the config's `rewards` and `cluster` say.

    Without a config: published weights at their published places, on the CPU. Nothing is loaded. ConfigError if there
    is no such reward; InputError if its weights are not there or may not be read.
    """
    rewards = config.rewards if config else RewardsConfig()
    device = config.cluster.device if config else "cpu"
    if name in REWARDS and name not in rewards.models:
        return REWARDS[name]
    model = rewards.model(name)
    if isinstance(model, HttpModel):
        return http_spec(name, model)
    if isinstance(model, EntryPointModel):
        return entry_point_spec(name, model.entry_point or name, model.options, device)
    if model is not None:
        return published_spec(name, model, config)
    if name in registered():
        return entry_point_spec(name, name, {}, device)
    known = sorted({*REWARDS, *PUBLISHED, *rewards.models, *registered()})
    raise ConfigError(
        f"There is no reward model {name!r}. Known: {', '.join(known)}. Others are named under rewards.models."
    )


def reward_versions(names: Iterable[str], config: RunConfig) -> dict[str, str]:
    """The versions of rewards by name, as keys and manifests hold them. Errors as `reward_spec`."""
    return {name: reward_spec(name, config).version for name in names}


def reward_resources(name: str, rewards: RewardsConfig) -> Resources | None:
    """What a reward model takes, without looking for it; None where that is not known."""
    if name in REWARDS and name not in rewards.models:
        return REWARDS[name].resources
    model = rewards.model(name)
    if isinstance(model, HttpModel):
        return Resources()
    return resources_of(model.kind, rewards) if model is not None and model.kind in PUBLISHED else None
