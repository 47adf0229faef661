"""Does alpha mean what it says? On pairs that nothing was fitted to: of those with alpha 0.7, do 70 % of people agree?

Every pair is turned to the image that alpha prefers, since which image is image_0 means nothing: alpha lies from 1/2 to
1, and the label is the share of votes for that image. Each pair counts once. Source: prefopt, from common definitions.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from prefopt.health.figures import LEVEL, wilson

RELIABILITY = "reliability.json"
SPLIT: Literal["validation"] = "validation"
BINS = 10
_SMALLEST = 1e-15


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReliabilityBin(_Record):
    """Pairs of like alpha."""

    least: float
    most: float
    """The smallest and the largest alpha."""
    alpha: float
    """Their mean."""
    share: float
    """The mean share of votes for the preferred image."""
    low: float
    high: float
    """Ends of the Wilson interval of the share."""
    pairs: int


class ReliabilityFigures(_Record):
    """One way to make alpha, measured. Lower is better in all three figures."""

    bins: list[ReliabilityBin]
    """Of equal numbers of pairs, as far as equal values allow."""
    ece: float
    """Expected calibration error: the mean over pairs of abs(alpha - share) of their bin."""
    brier: float
    """Mean of (alpha - share of the pair's votes)^2."""
    log_loss: float
    """Mean of -y log(alpha) - (1 - y) log(1 - alpha); ln 2 for an alpha that is always 1/2."""


class Reliability(_Record):
    """What reliability.json holds."""

    version: Literal[1] = 1
    split: Literal["validation"] = SPLIT
    level: float = LEVEL
    """Of the intervals."""
    pairs: int
    calibrate: str
    before: ReliabilityFigures | None
    """Of alpha without calibration; None without pairs."""
    after: ReliabilityFigures | None
    """Of the calibrated alpha; None where there is none."""


def measure_reliability(alpha: np.ndarray, share: np.ndarray) -> ReliabilityFigures | None:
    """Figures of alpha [n] against the share [n] of votes for the same image; None for no pairs."""
    if not alpha.size:
        return None
    p = np.maximum(alpha, 1.0 - alpha)
    y = np.where(alpha > 0.5, share, np.where(alpha < 0.5, 1.0 - share, 0.5))
    edges = np.unique(np.quantile(p, np.linspace(0.0, 1.0, BINS + 1)))
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = [_bin(p[place == number], y[place == number]) for number in np.unique(place)]
    inside = np.clip(p, _SMALLEST, 1.0 - _SMALLEST)
    return ReliabilityFigures(
        bins=bins,
        ece=sum(found.pairs * abs(found.alpha - found.share) for found in bins) / alpha.size,
        brier=float(np.mean(np.square(p - y))),
        log_loss=float(np.mean(-y * np.log(inside) - (1.0 - y) * np.log1p(-inside))),
    )


def _bin(p: np.ndarray, y: np.ndarray) -> ReliabilityBin:
    share = wilson(min(float(y.sum()), float(y.size)), y.size)
    assert share is not None
    return ReliabilityBin(
        least=float(p.min()),
        most=float(p.max()),
        alpha=float(p.mean()),
        share=share.value,
        low=share.low,
        high=share.high,
        pairs=share.n,
    )
