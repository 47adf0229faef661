"""From gaps between rewards to the share of people who prefer an image: Platt scaling and isotonic regression.

Both are fitted to every pair and to its mirror image, so that calibrated(gap) + calibrated(-gap) = 1; a calibration is
therefore kept for gaps of 0 and more. Every pair counts once, with the share of its votes as the target y. As in
Platt's method the targets are drawn in to (N y + 1) / (N + 2), N pairs, which keeps the probabilities off 0 and 1, and
the slope finite where a reward agrees with every vote. Source: prefopt, from the two methods as commonly stated.
"""

from typing import Literal

import numpy as np
from scipy.optimize import brentq, isotonic_regression
from scipy.special import expit

from prefopt.data.labels import TIE
from prefopt.data.scales import Calibration, IsotonicCalibration, PlattCalibration
from prefopt.errors import InputError

Kind = Literal["platt", "isotonic"]
FEWEST: dict[Kind, int] = {"platt": 30, "isotonic": 200}
"""Pairs with a winner that a fit needs."""
_LARGEST_SLOPE = 1e12
_ROUNDING = 1e-12


def fit_calibration(kind: Kind, gap: np.ndarray, share: np.ndarray) -> Calibration:
    """Fit to training pairs: gaps [n] of normalised rewards, and shares [n] of votes for image_0.

    InputError if too few pairs have a winner, if image_0 (or image_1) wins all of them, or if larger gaps do not go
    with larger shares.
    """
    _check_labels(kind, share)
    count = len(share)
    target = (count * share + 1.0) / (count + 2.0)
    return _platt(gap, target) if kind == "platt" else _isotonic(gap, target)


def calibrated_share(calibration: Calibration, gap: np.ndarray) -> np.ndarray:
    """The share [n] of people who prefer the image with the higher score, from gaps [n] of 0 and more.

    At most (N + 1) / (N + 2), the largest target there was.
    """
    if isinstance(calibration, PlattCalibration):
        most = (calibration.pairs + 1.0) / (calibration.pairs + 2.0)
        return np.asarray(np.minimum(expit(calibration.slope * gap), most))
    return np.asarray(np.interp(gap, calibration.gap, calibration.probability))


def _check_labels(kind: Kind, share: np.ndarray) -> None:
    decided = share[share != TIE]
    what = f"score.alpha.calibrate {kind}"
    if decided.size < FEWEST[kind]:
        raise InputError(
            f"{what} needs {FEWEST[kind]} training pairs whose votes name a winner, and there are {decided.size}: give"
            " more data, or set score.alpha.calibrate to "
            + ("none." if kind == "platt" or decided.size < FEWEST["platt"] else "platt.")
        )
    if (decided > TIE).all() or (decided < TIE).all():
        raise InputError(
            f"{what}: in all {decided.size} training pairs with a winner it is the same side, image"
            f"_{int(decided[0] < TIE)}, though the order of images is by their content. Check the label column of"
            " the sources, or set score.alpha.calibrate: none."
        )


def _no_relation(kind: Kind) -> InputError:
    return InputError(
        f"score.alpha.calibrate {kind}: on the training split a higher score does not go with more votes, so that every"
        " alpha would be 1/2. Choose other rewards, check the labels, or set score.alpha.calibrate: none."
    )


def _platt(gap: np.ndarray, target: np.ndarray) -> PlattCalibration:
    """The slope of least mean log loss, which is convex in it. Mirrored pairs would add the same terms once more."""
    unit = float(np.sqrt(np.mean(np.square(gap))))
    if unit == 0.0:
        raise _no_relation("platt")
    scaled = gap / unit

    def derivative(slope: float) -> float:
        return float(np.mean(scaled * (expit(slope * scaled) - target)))

    if derivative(0.0) >= 0.0:
        raise _no_relation("platt")
    above = 1.0
    while derivative(above) < 0.0 and above < _LARGEST_SLOPE:
        above *= 2.0
    return PlattCalibration(slope=brentq(derivative, 0.0, above) / unit, pairs=len(gap))


def _isotonic(gap: np.ndarray, target: np.ndarray) -> IsotonicCalibration:
    x, place = np.unique(np.concatenate([gap, -gap]), return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    mean = np.bincount(place, weights=np.concatenate([target, 1.0 - target])) / weight
    rising = isotonic_regression(mean, weights=weight).x
    mirrored = 0.5 * (rising + 1.0 - rising[::-1])
    upper = x > 0.0
    knots = np.concatenate([[0.0], x[upper]])
    probability = np.maximum.accumulate(np.concatenate([[0.5], mirrored[upper]]))
    if probability[-1] <= 0.5:
        raise _no_relation("isotonic")
    kept = _ends_of_steps(probability)
    return IsotonicCalibration(gap=knots[kept].tolist(), probability=probability[kept].tolist(), pairs=len(gap))


def _ends_of_steps(values: np.ndarray) -> np.ndarray:
    """Which values [n] differ, by more than rounding, from the one before or after: the rest lies between them."""
    changes = np.diff(values) > _ROUNDING
    ends: np.ndarray = np.concatenate([[True], changes]) | np.concatenate([changes, [True]])
    return ends
