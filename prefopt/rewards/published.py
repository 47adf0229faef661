"""Rewards with published weights: what each needs, what identifies it, and how it is loaded on a worker."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from prefopt.config import RunConfig
from prefopt.config.base import VALUE_BYTES
from prefopt.config.rewards import PUBLISHED, Hpsv2Model, RewardModel, RewardsConfig
from prefopt.data.ids import canonical_hash
from prefopt.data.storage import Storage
from prefopt.rewards.base import Resources, Reward, RewardSpec
from prefopt.rewards.files import FileSet, pickles_refused
from prefopt.rewards.node_cache import default_cache
from prefopt.rewards.places import Place, Sources, find

_MODULES = {
    "pickscore": "pickscore",
    "hpsv2": "hpsv2",
    "hpsv2.1": "hpsv2",
    "imagereward": "imagereward",
    "aesthetic": "aesthetic",
    "clip": "clip_score",
}
_SIZES = {
    "pickscore": (986e6, 0.382e12),
    "hpsv2": (986e6, 0.382e12),
    "hpsv2.1": (986e6, 0.382e12),
    "imagereward": (446e6, 0.138e12),
    "aesthetic": (305e6, 0.162e12),
    "clip": (428e6, 0.175e12),
}
"""Parameters, and FLOPs of one score; of `clip` those of its default backbone, ViT-L/14."""


def published_spec(name: str, model: RewardModel, config: RunConfig | None) -> RewardSpec:
    """A reward with published weights, which are found but not loaded; of a hub id nothing is fetched.

    InputError if they are not there, or are pickled and that is not allowed.
    """
    rewards = config.rewards if config else RewardsConfig()
    sources = sources_of(config)
    places = {role: _find(name, model, role, files, sources) for role, files in files_of(model).items()}
    return RewardSpec(
        name,
        version=_version(model, rewards, places),
        load=_Load(name, model, places, sources, config.cluster.device if config else "cpu", rewards.precision),
        resources=resources_of(model.kind, rewards),
    )


def files_of(model: RewardModel) -> dict[str, FileSet]:
    """The files of each place, by the config field that names it."""
    module = _module(model)
    found: dict[str, FileSet] = module.files(model.kind) if isinstance(model, Hpsv2Model) else module.FILES
    return found


def resources_of(kind: str, rewards: RewardsConfig) -> Resources:
    """What a published reward takes, known from its architecture."""
    parameters, flops = _SIZES[kind]
    return Resources(memory=parameters * VALUE_BYTES[rewards.precision], flops=flops)


def field_of(name: str, role: str) -> str:
    """The config field of a place, as errors name it."""
    return f"rewards.models.{name}.{role}"


def sources_of(config: RunConfig | None) -> Sources:
    """Where weights are kept on this machine, and whether pickled ones are read."""
    rewards = config.rewards if config else RewardsConfig()
    cache = Path(rewards.cache).absolute() if rewards.cache else default_cache()
    memory = Storage(config.store if config else str(cache))
    return Sources(cache, memory, rewards.allow_pickles)


@dataclass(frozen=True)
class _Load:
    """Loads the reward where it is called: on a worker."""

    name: str
    model: RewardModel
    places: Mapping[str, Place]
    sources: Sources
    device: str
    precision: str

    def __call__(self) -> Reward:
        from prefopt.rewards.parts import Parts

        parts = Parts.fetch(
            self.name, self.model, self.places, self.sources, device=self.device, precision=self.precision
        )
        reward: Reward = _module(self.model).load(parts)
        return reward


def _find(name: str, model: RewardModel, role: str, files: FileSet, sources: Sources) -> Place:
    where, field = getattr(model, role), field_of(name, role)
    if files.pickled and not sources.allow_pickles and is_published_pickle(model, role):
        raise pickles_refused(f"{where} has only {files.pickled[0]}", field, files.safe[0])
    return find(where, files, field, sources)


def is_published_pickle(model: RewardModel, role: str) -> bool:
    """Whether a place is the published one and known to have pickled weights alone."""
    return (
        role == "weights"
        and model.kind in ("hpsv2", "hpsv2.1", "imagereward")
        and getattr(model, role) == getattr(PUBLISHED[model.kind], role)
    )


def _version(model: RewardModel, rewards: RewardsConfig, places: Mapping[str, Place]) -> str:
    code = _module(model).VERSION
    described = {role: place.digest for role, place in places.items()}
    how = {name: value for name, value in model.model_dump().items() if name not in (*places, "kind")}
    return f"{model.kind} {code} {rewards.precision} {canonical_hash({'places': described, 'how': how})[:32]}"


def _module(model: RewardModel) -> ModuleType:
    """The reward's own module; what it imports is heavy, so that this waits until it is needed."""
    return importlib.import_module(f"prefopt.rewards.{_MODULES[model.kind]}")
