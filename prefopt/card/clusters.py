"""Groups of alike prompts: hashed words and character trigrams by TF-IDF, a truncated SVD, k-means, telling words."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.cluster.vq import kmeans2, vq
from scipy.sparse.linalg import svds

from prefopt.card.prompts import words
from prefopt.card.shards import Floats, Ints
from prefopt.data.ids import row_rng

SAMPLE = 20_000
"""Prompts that groups are found with; each other prompt is put into the nearest."""
_FEATURES = 1 << 15
_DIMENSIONS = 32
_DECIMALS = 6
"""Coordinates are rounded, so that the last bits of a machine's linear algebra move no prompt."""
_STARTS, _ROUNDS = 4, 50
_PROMPTS_PER_CLUSTER = 3
"""Groups are at most a third of the prompts."""
_TELLING_WORDS, _LONGEST_WORD = 4, 24


@dataclass(frozen=True)
class Clusters:
    """Groups of prompts, and how a prompt is put into one."""

    names: list[str]
    """Their most telling words."""
    _weights: Floats
    """[features] inverse document frequencies."""
    _directions: Floats
    """[features, dimensions]"""
    _centres: Floats
    """[clusters, dimensions]"""

    def place(self, prompts: Sequence[str]) -> Ints:
        """[n] the group of each prompt."""
        if len(self.names) < 2 or not prompts:
            return np.zeros(len(prompts), dtype=np.int64)
        points = _points(_counts(prompts) @ sparse.diags_array(self._weights), self._directions)
        return np.asarray(vq(points, self._centres)[0], dtype=np.int64)


def find_clusters(prompts: Sequence[str], most: int, seed: int) -> Clusters:
    """At most `most` groups of the given distinct prompts; the same prompts in the same order give the same groups."""
    wanted = max(1, min(most, len(prompts) // _PROMPTS_PER_CLUSTER))
    counts = _counts(prompts)
    weights = np.log((1.0 + len(prompts)) / (1.0 + np.bincount(counts.indices, minlength=_FEATURES)))
    weighted = _unit_rows(counts @ sparse.diags_array(weights))
    dimensions = min(_DIMENSIONS, min(weighted.shape) - 1)
    if wanted < 2 or dimensions < 1 or not weighted.nnz:
        return Clusters(["all prompts"], weights, np.empty((_FEATURES, 0)), np.empty((1, 0)))
    start = row_rng(seed, "prompt directions").standard_normal(min(weighted.shape))
    _, _, rows = svds(weighted, k=dimensions, v0=start)
    points = _points(weighted, rows.T)
    centres, of = _best_of_starts(points, wanted, seed)
    return Clusters(_telling_words(prompts, of, len(centres)), weights, rows.T, centres)


def _best_of_starts(points: Floats, wanted: int, seed: int) -> tuple[Floats, Ints]:
    """k-means from several starts: the centres nearest to their points, without those that nothing is near to."""
    best: tuple[float, Floats] | None = None
    for attempt in range(_STARTS):
        rng = row_rng(seed, "prompt groups", attempt)
        centres, _ = kmeans2(points, wanted, iter=_ROUNDS, minit="++", rng=rng)
        distance = float(np.square(vq(points, centres)[1]).sum())
        if best is None or distance < best[0]:
            best = distance, centres
    assert best is not None
    used, of = np.unique(vq(points, best[1])[0], return_inverse=True)
    return best[1][used], of


def _counts(prompts: Sequence[str]) -> sparse.csr_array:
    """[n, features] 1 + log of how often a prompt holds each feature."""
    found = [Counter(_features(prompt)) for prompt in prompts]
    ends = np.cumsum([0, *map(len, found)])
    columns = np.fromiter((column for counts in found for column in counts), dtype=np.int64, count=ends[-1])
    values = np.fromiter((times for counts in found for times in counts.values()), dtype=np.float64, count=ends[-1])
    matrix = sparse.csr_array((1.0 + np.log(values), columns, ends), shape=(len(prompts), _FEATURES))
    matrix.sort_indices()
    return matrix


def _features(prompt: str) -> list[int]:
    """Hashes of a prompt's words, and of their trigrams: they tie forms of a word, and languages without spaces."""
    found = words(prompt)
    grams = [f"~{word[at : at + 3]}" for word in found for at in range(max(len(word) - 2, 0))]
    return [zlib.crc32(text.encode()) % _FEATURES for text in (*found, *grams)]


def _points(weighted: sparse.csr_array, directions: Floats) -> Floats:
    points = weighted @ directions
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(np.round(points / np.where(length > 0, length, 1.0), _DECIMALS))


def _unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    length = np.sqrt(matrix.multiply(matrix).sum(axis=1))
    return (sparse.diags_array(1.0 / np.where(length > 0, length, 1.0)) @ matrix).tocsr()


def _telling_words(prompts: Sequence[str], of: Ints, clusters: int) -> list[str]:
    """Per group the words that many of its prompts hold, and few of the others."""
    inside = [Counter[str]() for _ in range(clusters)]
    for prompt, cluster in zip(prompts, of, strict=True):
        inside[cluster].update(set(words(prompt)))
    everywhere = sum(inside, Counter[str]())
    sizes = np.bincount(of, minlength=clusters)
    names = []
    for counts, size in zip(inside, sizes, strict=True):
        lift = {word: np.log(n * len(prompts) / (size * everywhere[word])) for word, n in counts.items()}
        gain = {word: n / size * lift[word] ** 2 for word, n in counts.items() if lift[word] > 0}
        best = sorted(gain, key=lambda word: (-round(gain[word], 9), word))
        names.append(", ".join(word[:_LONGEST_WORD] for word in best[:_TELLING_WORDS]) or "other prompts")
    return names
