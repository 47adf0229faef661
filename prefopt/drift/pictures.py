"""Drift of images: where their latents lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefopt.drift.chance import (
    Bools,
    Chance,
    Finding,
    Floats,
    Measured,
    Unmeasured,
    beyond_chance,
    chance_p,
    rounded,
    shuffles,
    too_few,
    units_of,
)

_CHUNK = 256


@dataclass(frozen=True)
class Pictures:
    """Both images of n pairs."""

    prompts: Sequence[str]
    pairs: Sequence[str]
    new: Bools
    """[n]"""
    vectors: NDArray[np.floating]
    """[n, 2, D]"""


def one_of_each_prompt(prompts: Sequence[str], new: Bools) -> NDArray[np.intp]:
    """Which of n pairs are compared: the first of a prompt that one side alone has, and all of a prompt on both.

    Chance moves the former as a whole. If one side had more pairs of each of its prompts than the other, whether it
    collects them so or a sample has thinned them out, prompts would not be alike, and chance would say too little.
    """
    sides: dict[str, set[bool]] = {}
    for prompt, side in zip(prompts, new.tolist(), strict=True):
        sides.setdefault(prompt, set()).add(side)
    seen: set[str] = set()
    kept = []
    for row, prompt in enumerate(prompts):
        if len(sides[prompt]) > 1 or prompt not in seen:
            kept.append(row)
        seen.add(prompt)
    return np.array(kept, dtype=np.intp)


def pooled(latents: NDArray[np.floating], height: int, width: int) -> NDArray[np.floating]:
    """[n, C * height * width] means over a grid, of latents [n, C, H, W] that are at least as large."""
    rows, columns = _bins(latents.shape[2], height), _bins(latents.shape[3], width)
    grid = np.einsum("hH,ncHW,wW->nchw", rows, latents, columns, optimize=True)
    return np.asarray(grid).reshape(len(latents), latents.shape[1] * height * width)


def _bins(size: int, count: int) -> Floats:
    """[count, size] weights that average each of `count` stretches; they overlap where `size` is no multiple."""
    weights = np.zeros((count, size))
    for place, row in enumerate(weights):
        start, end = place * size // count, -(-(place + 1) * size // count)
        row[start:end] = 1.0 / (end - start)
    return weights


def image_drift(pictures: Pictures, chance: Chance) -> Finding:
    """The energy distance of the two sides' images beyond what chance gives, in units of the known side's spread.

    The squared distance is 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo 2013, J. Stat. Plan. Inference
    143) over all images, the spread the mean distance between two known ones. The value is the root of (squared
    distance less its mean under chance) / spread: with few images the distance is above 0 by chance, and what chance
    adds, it adds to the square. Latents are taken as they are, not brought to one length: that would hide a change of
    contrast, and the division by the spread makes the value free of units.
    """
    counts = 2 * int((~pictures.new).sum()), 2 * int(pictures.new.sum())
    missing = too_few("images with stored latents", *counts)
    if missing:
        return missing
    units = units_of(pictures.prompts, pictures.pairs, pictures.new)
    sums = distance_sums(pictures.vectors.reshape(2 * len(pictures.new), -1), np.repeat(units.of_row, 2))
    sizes = 2.0 * np.bincount(units.of_row).astype(np.float64)
    known = ~units.new
    spread = float(sums[np.ix_(known, known)].sum()) / (counts[0] * (counts[0] - 1.0))
    if not spread > 0.0:
        return Unmeasured("all known images have the same latent", *counts)
    found = energies(sums, sizes, shuffles(units, chance, "images")) / spread
    distance, by_chance = np.sqrt(np.maximum([found[0], found[1:].mean()], 0.0))
    return Measured(
        value=round(float(np.sqrt(beyond_chance(found))), 6),
        p=chance_p(found),
        known=counts[0],
        new=counts[1],
        figures=rounded({"distance": distance, "by_chance": by_chance, "spread": spread}),
    )


def distance_sums(vectors: NDArray[np.floating], unit: NDArray[np.intp]) -> Floats:
    """[U, U] sums of the Euclidean distances between the rows [n, D] of two units; `unit` [n] counts from 0."""
    order = np.argsort(unit, kind="stable")
    rows, unit = vectors[order].astype(np.float64), unit[order]
    rows = rows - rows.mean(axis=0)
    squares, starts = np.square(rows).sum(axis=1), np.flatnonzero(np.r_[True, np.diff(unit) > 0])
    sums = np.zeros((len(starts), len(starts)))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        apart = squares[part, None] + squares - 2.0 * rows[part] @ rows.T
        by_column = np.add.reduceat(np.sqrt(np.maximum(apart, 0.0)), starts, axis=1)
        np.add.at(sums, unit[part], by_column)
    return sums


def energies(sums: Floats, sizes: Floats, new: Bools) -> Floats:
    """[R] squared energy distances from the units' sums of distances [U, U], their sizes [U], and R ways [R, U] to
    deal them out."""
    of_unit, total, found = sums.sum(axis=1), float(sums.sum()), np.empty(len(new))
    for start in range(0, len(new), _CHUNK):
        chosen = new[start : start + _CHUNK].astype(np.float64)
        count = chosen @ sizes
        other = sizes.sum() - count
        within = ((chosen @ sums) * chosen).sum(axis=1)
        all_of_new = chosen @ of_unit
        between = (all_of_new - within) / (count * other)
        outside = (total - 2.0 * all_of_new + within) / other**2
        found[start : start + _CHUNK] = 2.0 * between - within / count**2 - outside
    return found
