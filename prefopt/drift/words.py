"""Drift of prompts: which words they are made of."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.special import entr

from prefopt.card.prompts import plain_prompt, words
from prefopt.drift.chance import (
    Bools,
    Chance,
    Finding,
    Floats,
    Measured,
    Units,
    beyond_chance,
    chance_p,
    rounded,
    shuffles,
    too_few,
)

_CHUNK = 100


def prompt_drift(known: Sequence[str], new: Sequence[str], chance: Chance) -> Finding:
    """The Jensen-Shannon distance (base 2, from 0 to 1) of the two sides' words, beyond what chance gives.

    Prompts are normalised, and each counts once, however long it is and however often it was given: a side's
    distribution is the mean of its prompts' own. Under chance the divergence, which is the distance's square, is above
    0, for few prompts far above. The value is the root of the divergence less its mean under chance: bias adds to
    divergences, not to their roots. A prompt of both sides stays on both: it is no news.
    """
    sides = set(known), set(new)
    missing = too_few("prompts", *map(len, sides))
    if missing:
        return missing
    prompts = sorted(sides[0] | sides[1])
    on_known, on_new = (np.array([prompt in side for prompt in prompts]) for side in sides)
    found = _divergences(word_shares(prompts), on_known, on_new, chance)
    return Measured(
        value=round(float(np.sqrt(beyond_chance(found))), 6),
        p=chance_p(found),
        known=len(sides[0]),
        new=len(sides[1]),
        figures=rounded({"distance": np.sqrt(found[0]), "by_chance": np.sqrt(found[1:].mean())}),
    )


def word_shares(prompts: Sequence[str]) -> sparse.csr_array:
    """[prompts, words] each word's share of a prompt's words; words in the order of their texts."""
    counts = [Counter(words(prompt) or [plain_prompt(prompt)]) for prompt in prompts]
    places = {word: place for place, word in enumerate(sorted(set().union(*counts)))}
    rows = np.repeat(np.arange(len(counts)), [len(count) for count in counts])
    columns = [places[word] for count in counts for word in count]
    shares = [n / count.total() for count in counts for n in count.values()]
    return sparse.csr_array((shares, (rows, columns)), shape=(len(prompts), len(places)))


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """The divergence, in bits, of distributions [..., words]. Source: Lin 1991, IEEE Trans. Inf. Theory 37(1)."""
    middle = entr((first + second) / 2.0).sum(axis=-1)
    apart = middle - (entr(first).sum(axis=-1) + entr(second).sum(axis=-1)) / 2.0
    return np.maximum(np.asarray(apart / np.log(2.0), dtype=np.float64), 0.0)


def _divergences(shares: sparse.csr_array, on_known: Bools, on_new: Bools, chance: Chance) -> Floats:
    both = on_known & on_new
    alone, shared = shares[np.flatnonzero(~both)], shares[np.flatnonzero(both)].sum(axis=0)
    moving = int(alone.shape[0])
    dealt = shuffles(Units(np.arange(moving), on_new[~both], np.zeros(moving, np.intp)), chance, "prompts")
    total, found = alone.sum(axis=0), np.empty(len(dealt))
    for start in range(0, len(dealt), _CHUNK):
        moved = dealt[start : start + _CHUNK].astype(np.float64) @ alone
        new, known = moved + shared, np.maximum(total - moved, 0.0) + shared
        found[start : start + _CHUNK] = jensen_shannon(known / on_known.sum(), new / on_new.sum())
    return found
