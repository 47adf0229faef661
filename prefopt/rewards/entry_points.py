"""Rewards of other packages, registered in the entry point group `prefopt.rewards`.

The entry point is a class or a function. Called with the configured options it gives an object with `version` (text)
and `score(images, prompts)`. Making one must be cheap, since the driver makes one to read its version; what is slow
belongs into the first `score`, or into a method `load(device)`, which workers call if it is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np
from PIL import Image

from prefopt.data.ids import canonical_hash
from prefopt.errors import ConfigError, RewardError
from prefopt.rewards.base import RewardSpec

GROUP = "prefopt.rewards"
_SHOWN = 300


def registered() -> list[str]:
    """Names of all rewards that installed packages register."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def entry_point_spec(name: str, entry_point: str, options: Mapping[str, Any], device: str) -> RewardSpec:
    """The reward that a package registers. ConfigError if there is none, or it cannot be made, or has no version."""
    made = _make(name, entry_point, options)
    version = getattr(made, "version", None)
    if not isinstance(version, str) or not version:
        raise ConfigError(
            f"The reward {name!r} (entry point {entry_point!r}) has no version: give it an attribute `version`, a text"
            " that changes whenever its scores may change."
        )
    if not callable(getattr(made, "score", None)):
        raise ConfigError(f"The reward {name!r} (entry point {entry_point!r}) has no method score(images, prompts).")
    known = f" {canonical_hash(dict(options))[:16]}" if options else ""
    return RewardSpec(name, f"{entry_point} {version}{known}", _Load(name, entry_point, dict(options), device))


@dataclass(frozen=True)
class _Load:
    name: str
    entry_point: str
    options: Mapping[str, Any]
    device: str

    def __call__(self) -> "EntryPointReward":
        made = _make(self.name, self.entry_point, self.options)
        if callable(getattr(made, "load", None)):
            try:
                made.load(self.device)
            except Exception as error:
                raise RewardError(f"The reward {self.name!r} failed to load: {_said(error)}.") from error
        return EntryPointReward(self.name, made)


@dataclass(frozen=True)
class EntryPointReward:
    """The object that a package's entry point gives, under the config's name."""

    name: str
    made: Any

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Whatever the object gives; callers check it."""
        scores: np.ndarray = self.made.score(images, prompts)
        return scores


def _make(name: str, entry_point: str, options: Mapping[str, Any]) -> Any:
    entry = _find(name, entry_point)
    # Anybody's code: whatever it raises is said in words.
    try:
        return entry.load()(**options)
    except Exception as error:
        raise ConfigError(
            f"The reward {name!r} (entry point {entry_point!r}, {entry.value}) cannot be made: {_said(error)}."
        ) from error


def _find(name: str, entry_point: str) -> EntryPoint:
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=entry_point)}
    if not found:
        known = ", ".join(registered()) or "none"
        raise ConfigError(
            f"No installed package registers {entry_point!r} in the entry point group {GROUP} (registered: {known}), as"
            f" the reward {name!r} needs. Install it wherever rewards are computed."
        )
    if len(found) > 1:
        raise ConfigError(f"Several packages register the reward {entry_point!r}: {', '.join(sorted(found))}.")
    return next(iter(found.values()))


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:_SHOWN]
