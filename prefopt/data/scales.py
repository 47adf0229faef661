"""Frozen scales: what is measured once on the training split, so that new data does not move old pairs."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefopt.data.storage import Storage
from prefopt.errors import InputError

SCALES = "scales.json"
VERSION: Literal[2] = 2
QUANTILES = (0.01, 0.99)


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RewardScale(_Frozen):
    """Scale of one reward on the training split."""

    low: float
    """The 1 % quantile of scores."""
    high: float
    """The 99 % quantile of scores."""
    rms: float
    """Root mean square of the pairs' gaps."""


class PlattCalibration(_Frozen):
    """P(image_0 wins) = sigma(slope x gap). There is no intercept: the two images are alike."""

    kind: Literal["platt"] = "platt"
    slope: float
    pairs: int
    """How many training pairs it was fitted to."""


class IsotonicCalibration(_Frozen):
    """A rising curve through points, for gaps of 0 and more; the others mirror it. Linear between points, level after
    the last."""

    kind: Literal["isotonic"] = "isotonic"
    gap: list[float]
    """From 0, rising."""
    probability: list[float]
    """From 1/2, never falling, below 1."""
    pairs: int
    """How many training pairs it was fitted to."""


Calibration = PlattCalibration | IsotonicCalibration


class Scales(_Frozen):
    """What scales.json holds."""

    version: Literal[2] = 2
    rewards: dict[str, RewardScale]
    snapshots: dict[str, float] = {}
    """Root mean square of each policy snapshot's implicit preference z, by the annotator's name."""
    crowd_rms: float = 0.0
    """Root mean square of the crowd's margins; 0 without pairs that several people judged."""
    annotators: list[str] = []
    """The panel, in the order of the scores' `margins`."""
    calibration: Annotated[Calibration, Field(discriminator="kind")] | None = None
    """From the gap between normalised rewards to the share of votes; None where alpha is not calibrated."""


def read_scales(storage: Storage, name: str = SCALES) -> Scales:
    """The scales that a score stage froze. InputError if they are of another version, or are damaged."""
    data = storage.read_bytes(name)
    try:
        return Scales.model_validate_json(data)
    except ValidationError as error:
        found = {".".join(map(str, detail["loc"])): detail for detail in error.errors()}
        where, detail = next(iter(found.items()))
        problem = f"cannot be read ({where or 'not JSON'}: {detail['msg']})"
        if "version" in found:
            problem = f"are of version {found['version']['input']}, and this prefopt reads version {VERSION}"
        raise InputError(f"The scales {storage.uri}/{name} {problem}: run the score stage again.") from None


def check_alike(frozen: Scales, measured: Scales) -> None:
    """InputError unless frozen scales are of the same rewards, snapshots and panel as those of today."""
    for what, before, now in (
        ("rewards", list(frozen.rewards), list(measured.rewards)),
        ("snapshots", list(frozen.snapshots), list(measured.snapshots)),
        ("panel", frozen.annotators, measured.annotators),
    ):
        if before != now:
            raise InputError(
                f"The champion's scales are of other {what} ({', '.join(before) or 'none'}) than the config now names"
                f" ({', '.join(now) or 'none'}): train anew from the base, which measures them anew: prefopt retrain"
                " --full."
            )


def measure_rewards(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, RewardScale]:
    """Scales of rewards from the scores of image_0 and image_1 [n] of the training pairs."""
    rewards = {}
    for name, (first, second) in scores.items():
        low, high = np.quantile(np.concatenate([first, second]).astype(np.float64), QUANTILES)
        gaps = first.astype(np.float64) - second
        rewards[name] = RewardScale(low=float(low), high=float(high), rms=root_mean_square(gaps))
    return rewards


def scaled_margin(gap: np.ndarray, rms: float, rho: float) -> np.ndarray:
    """Annotator logits rho * gap / RMS, NaN where the gap is; zeros if the annotator never sees a difference."""
    return np.asarray(rho * gap / rms if rms > 0.0 else 0.0 * gap, dtype=np.float64)


def root_mean_square(values: np.ndarray) -> float:
    """Of the values that are numbers; 0 if there are none."""
    known = values[~np.isnan(values)].astype(np.float64)
    return float(np.sqrt(np.mean(np.square(known)))) if known.size else 0.0
