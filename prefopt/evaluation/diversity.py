"""Diversity of a model's images, and their distance from the base model's, from unit feature vectors (prefopt).

Shapes: P prompts, S samples of each, D features. The cosine distance of unit vectors is 1 - x.y = |x - y|^2 / 2,
between 0 and 2. The mean over all pairs of n vectors takes O(n D), not O(n^2 D), and is exact: the sum over i < j of
|x_i - x_j|^2 is n times the sum of |x_i - mean|^2, so that the mean pairwise cosine distance is the sum over features
of the sample variance (divisor n - 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefopt.config.evaluate import BASE
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, estimate_record, mean_estimate

_UNIT_TOLERANCE = 1e-4
_MEMORY_CELLS = 4_000_000
_FEWEST = 3
"""Prompts that an interval of the diversity across prompts takes: two leave one pair and nothing to resample."""


@dataclass(frozen=True)
class Diversity:
    """How unlike each other a model's images are: mean pairwise cosine distances."""

    within: Estimate | None
    """Between samples of one prompt, averaged over prompts; None with one sample per prompt."""
    across: Estimate | None
    """Between the first samples of different prompts; None with one prompt."""
    within_change: Estimate | None = None
    """Minus the base model's, paired by prompt; None for the base model itself."""
    across_change: Estimate | None = None


@dataclass(frozen=True)
class FeatureFigures:
    """What was measured with one kind of image features."""

    embedder: str
    version: str
    diversity: dict[str, Diversity]
    """By model, the base model's first."""
    distance_from_base: dict[str, Estimate]
    """By model, of all but the base: over images of the same prompt and sample, which share the initial noise."""


def feature_figures(
    embedder: str,
    version: str,
    features: Mapping[str, ArrayLike],
    prompts: Sequence[str],
    how: Resampling,
    base: str = BASE,
) -> FeatureFigures:
    """Figures from features[model] [P, S, D], in one order of `prompts` [P] and samples for all models.

    ValueError if there is no base, shapes differ, a prompt is named twice, or rows have not the length 1.
    """
    if base not in features:
        raise ValueError(f"there are no features of the model {base!r} to compare with: {', '.join(features)}")
    order = np.argsort(np.asarray(prompts), kind="stable")
    units = {name: unit_rows(found) for name, found in features.items()}
    for name, found in units.items():
        if found.shape != units[base].shape:
            raise ValueError(f"{name} has features of the shape {found.shape}, {base} of {units[base].shape}")
        _check_prompts(found, prompts)
    named = [str(prompts[place]) for place in order]
    sorted_units = {name: units[name][order] for name in (base, *(other for other in units if other != base))}
    return FeatureFigures(
        embedder,
        version,
        _diversity(sorted_units, named, how, base),
        {
            name: mean_estimate(
                paired_distances(found, sorted_units[base]).ravel(),
                np.repeat(named, found.shape[1]),
                how,
                f"distance {name}",
            )
            for name, found in sorted_units.items()
            if name != base
        },
    )


def unit_rows(features: ArrayLike) -> Floats:
    """float64 [P, S, D], freed of the rounding of their lengths. ValueError unless lengths are 1 and numbers finite."""
    found = np.asarray(features, dtype=np.float64)
    if found.ndim != 3 or 0 in found.shape:
        raise ValueError(f"features must be [prompts, samples, d] with at least one of each, got {found.shape}")
    lengths = np.linalg.norm(found, axis=-1)
    odd = ~(np.abs(lengths - 1.0) <= _UNIT_TOLERANCE)
    if odd.any():
        prompt, sample = (int(axis[0]) for axis in np.nonzero(odd))
        raise ValueError(
            f"features must have the length 1: {int(odd.sum())} of {odd.size} rows do not, the first at prompt"
            f" {prompt}, sample {sample}, with {lengths[prompt, sample]:g}"
        )
    return np.asarray(found / lengths[..., None], dtype=np.float64)


def within_distances(units: Floats) -> Floats:
    """[P] mean cosine distance over the pairs of each prompt's samples, from [P, S, D]. ValueError for one sample."""
    if units.shape[1] < 2:
        raise ValueError("diversity within prompts needs at least two samples per prompt")
    return np.asarray(units.var(axis=1, ddof=1).sum(axis=-1), dtype=np.float64)


def across_distance(units: Floats) -> float:
    """Mean cosine distance over the pairs of different prompts' first samples, from [P, S, D]. ValueError for one
    prompt."""
    if units.shape[0] < 2:
        raise ValueError("diversity across prompts needs at least two prompts")
    return float(units[:, 0].var(axis=0, ddof=1).sum())


def paired_distances(first: Floats, second: Floats) -> Floats:
    """[P, S] cosine distances of the images of one prompt and sample, from [P, S, D] each."""
    return np.asarray(0.5 * np.square(first - second).sum(axis=-1), dtype=np.float64)


def resampled_across(units: Sequence[Floats], how: Resampling) -> Floats:
    """[models, resamples] of `across_distance`, all models under the same draws of prompts with replacement.

    A prompt drawn w times enters with weight w, and a pair of prompts p and q with w_p w_q; pairs of a prompt with
    itself, whose distance is zero by nature, are left out of sum and count. So resamples lie around the figure itself,
    and not lower by a share of 1/P as with those pairs. NaN where a resample is one prompt alone. The quantiles are an
    interval where some images lie farther from all others than some do; where all lie equally far (a degenerate
    U-statistic, as with directions that are evenly spread) they are too wide.
    """
    number = len(units[0])
    centred = [found[:, 0] - found[:, 0].mean(axis=0) for found in units]
    squares = [np.square(found).sum(axis=-1) for found in centred]
    rng, resamples = how.rng("diversity across prompts"), how.bootstrap.resamples
    shares, chunk = np.full(number, 1.0 / number), max(1, _MEMORY_CELLS // number)
    parts: list[Floats] = []
    for start in range(0, resamples, chunk):
        weights = rng.multinomial(number, shares, size=min(chunk, resamples - start)).astype(np.float64)
        pairs = number**2 - np.square(weights).sum(axis=1)
        sums = [
            number * (weights @ square) - np.square(weights @ found).sum(axis=1)
            for found, square in zip(centred, squares, strict=True)
        ]
        parts.append(np.where(pairs > 0, np.stack(sums) / np.maximum(pairs, 1.0), np.nan))
    return np.concatenate(parts, axis=1)


def feature_metrics(figures: FeatureFigures | None) -> dict[str, Any]:
    """The entries `diversity` and `distance_from_base` of metrics.json; null where nothing was measured."""
    if figures is None:
        return {"diversity": None, "distance_from_base": None}
    features = {"name": figures.embedder, "version": figures.version}
    return {
        "diversity": {
            "features": features,
            "models": {
                name: {field: _record(value) for field, value in vars(found).items()}
                for name, found in figures.diversity.items()
            },
        },
        "distance_from_base": {
            "features": features,
            "models": {name: _record(found) for name, found in figures.distance_from_base.items()},
        },
    }


def _record(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate_record(estimate)


def _check_prompts(units: Floats, prompts: Sequence[str]) -> None:
    if len(prompts) != len(units):
        raise ValueError(f"there are features of {len(units)} prompts, and {len(prompts)} names of prompts")
    if len(set(prompts)) < len(prompts):
        raise ValueError("a prompt is named twice: its samples belong into one row")


def _diversity(units: Mapping[str, Floats], prompts: Sequence[str], how: Resampling, base: str) -> dict[str, Diversity]:
    across = _across(units, how, base)
    if units[base].shape[1] < 2:
        return {name: Diversity(None, value, None, change) for name, (value, change) in across.items()}
    within = {name: within_distances(found) for name, found in units.items()}

    def estimate(values: Floats, what: str) -> Estimate:
        return mean_estimate(values, prompts, how, what)

    return {
        name: Diversity(
            within=estimate(within[name], f"diversity within {name}"),
            across=value,
            within_change=None
            if name == base
            else estimate(within[name] - within[base], f"diversity within, change {name}"),
            across_change=change,
        )
        for name, (value, change) in across.items()
    }


def _across(
    units: Mapping[str, Floats], how: Resampling, base: str
) -> dict[str, tuple[Estimate | None, Estimate | None]]:
    """By model: the figure, and its change against the base's under the same draws."""
    number = len(units[base])
    if number < 2:
        return dict.fromkeys(units, (None, None))
    values = {name: across_distance(found) for name, found in units.items()}
    drawn = dict.fromkeys(units, np.empty(0))
    if number >= _FEWEST:
        drawn = dict(zip(units, resampled_across(list(units.values()), how), strict=True))
    return {
        name: (
            _estimate(values[name], drawn[name], number, how),
            None if name == base else _estimate(values[name] - values[base], drawn[name] - drawn[base], number, how),
        )
        for name in units
    }


def _estimate(value: float, drawn: Floats, number: int, how: Resampling) -> Estimate:
    if not drawn.size:
        return Estimate(value, None, None, number)
    low, high = np.nanquantile(drawn, how.ends())
    return Estimate(value, float(low), float(high), number)
