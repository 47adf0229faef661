"""Drift of a mean over labels: how many agree with the soft preference, and their minority metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefopt.drift.chance import (
    Bools,
    Chance,
    Finding,
    Floats,
    Measured,
    chance_p,
    rounded,
    shuffles,
    too_few,
    units_of,
)


@dataclass(frozen=True)
class Labels:
    """n labels that are no ties, and a number of each."""

    prompts: Sequence[str]
    pairs: Sequence[str]
    new: Bools
    """[n]"""
    values: Floats
    """[n]"""

    def means(self) -> tuple[float, float]:
        """Of the known and of the new labels."""
        return float(self.values[~self.new].mean()), float(self.values[self.new].mean())


def agreement_drift(labels: Labels, chance: Chance) -> Finding:
    """By how much fewer new labels agree: the known share less the new one; values are 1 (agrees) and 0."""
    missing = too_few("labels", int((~labels.new).sum()), int(labels.new.sum()))
    if missing:
        return missing
    known, new = labels.means()
    turned = Labels(labels.prompts, labels.pairs, labels.new, 1.0 - labels.values)
    return _measured(labels, known - new, rise_p(turned, chance, "agreement"), known, new)


def minority_drift(labels: Labels, chance: Chance) -> Finding:
    """By how much the mean u of new labels is above that of known ones; values are u."""
    missing = too_few("labels", int((~labels.new).sum()), int(labels.new.sum()))
    if missing:
        return missing
    known, new = labels.means()
    return _measured(labels, new - known, rise_p(labels, chance, "minority"), known, new)


def _measured(labels: Labels, value: float, p: float, known: float, new: float) -> Measured:
    counts = int((~labels.new).sum()), int(labels.new.sum())
    return Measured(round(value, 6), p, *counts, rounded({"known": known, "new": new}))


def rise_p(labels: Labels, chance: Chance, signal: str) -> float:
    """How often chance lets the mean rise so far from known to new labels: one-sided, by whole prompts.

    The difference is measured in its own standard error, so that the test also holds where one side has more labels of
    each prompt than the other (Chung and Romano 2013, arXiv 1304.5939).
    """
    units = units_of(labels.prompts, labels.pairs, labels.new)
    sums, counts = (
        np.bincount(units.of_row, weights=weights).astype(np.float64)
        for weights in (labels.values, np.ones_like(labels.values))
    )
    return chance_p(studentised(sums, counts, shuffles(units, chance, signal)))


def studentised(sums: Floats, counts: Floats, new: Bools) -> Floats:
    """[R] (mean of new - mean of known) / its standard error, for R ways [R, U] to deal out units with these sums and
    counts [U]. The error is that of ratios of sums over clusters; without any, the sign of the difference decides."""
    columns = np.stack([sums, counts, sums**2, sums * counts, counts**2], axis=1)
    of_new = new.astype(np.float64) @ columns
    (first, error_1), (second, error_0) = _ratio(of_new), _ratio(columns.sum(axis=0) - of_new)
    apart, error = first - second, np.sqrt(error_1 + error_0)
    apart = np.where(np.abs(apart) < 1e-12, 0.0, apart)
    return np.asarray(apart / np.maximum(error, 1e-9))


def _ratio(found: Floats) -> tuple[Floats, Floats]:
    """[R] means and their squared errors, from sums over clusters of S, N, S^2, SN, N^2."""
    sums, counts, squares, products, sizes = found.T
    mean = sums / counts
    return mean, np.maximum(squares - 2.0 * mean * products + mean**2 * sizes, 0.0) / counts**2
