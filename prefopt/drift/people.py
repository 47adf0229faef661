"""Drift of annotators: whose votes there are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefopt.drift.chance import (
    Bools,
    Chance,
    Finding,
    Floats,
    Ints,
    Measured,
    Unmeasured,
    beyond_chance,
    chance_p,
    codes,
    rounded,
    too_few,
)

NO_GROUP = "(none)"


@dataclass(frozen=True)
class Voters:
    """Who gave n votes; an empty name is an unknown one."""

    annotators: Sequence[str]
    groups: Sequence[str]
    new: Bools
    """[n]"""
    unseen: float
    """Share of all new votes that name an annotator whom no known vote names."""


def annotator_drift(voters: Voters, chance: Chance) -> Finding:
    """The total variation distance between the two sides' shares of votes by annotator group, beyond what chance gives.

    Without groups the annotators themselves take their place. An annotator gives many votes at a time, so that chance
    moves annotators, not votes: it swaps the shares of known and new votes that one gave, each with probability 1/2.
    Where nobody has several votes, or annotators stand for groups, it deals out single votes. The value is the
    distance less its mean under chance.
    """
    grouped = any(voters.groups)
    if not grouped and not any(voters.annotators):
        return Unmeasured("no vote names an annotator or a group")
    rows = [row for row, annotator in enumerate(voters.annotators) if annotator or grouped]
    new = voters.new[rows]
    missing = too_few("votes", int((~new).sum()), int(new.sum()))
    if missing:
        return missing
    of_vote = [group or NO_GROUP for group in voters.groups] if grouped else voters.annotators
    kinds = codes([of_vote[row] for row in rows])
    people = _clusters([voters.annotators[row] for row in rows])
    clustered = grouped and bool(np.bincount(people).max() > 1)
    found = swapped(kinds, people, new, chance) if clustered else dealt(kinds, new, chance)
    return Measured(
        value=round(beyond_chance(found), 6),
        p=chance_p(found),
        known=int((~new).sum()),
        new=int(new.sum()),
        figures=rounded(
            {
                "distance": found[0],
                "by_chance": found[1:].mean(),
                "unseen": voters.unseen,
                "groups": float(kinds.max() + 1) if grouped else 0.0,
            }
        ),
    )


def _clusters(annotators: Sequence[str]) -> Ints:
    """Numbers of annotators; each vote without a name is by somebody else."""
    return codes([name or f"\0{row}" for row, name in enumerate(annotators)])


def total_variation(known: Floats, new: Floats) -> Floats:
    """Half the summed differences of shares [..., K]."""
    return np.asarray(np.abs(known - new).sum(axis=-1) / 2.0)


def swapped(kinds: Ints, people: Ints, new: Bools, chance: Chance) -> Floats:
    """[permutations + 1] distances, first as it is, then with annotators' shares of both sides swapped.

    Votes [n] are of `kinds` and by `people`, numbered from 0. Shares are brought back to a sum of 1; if all votes come
    to lie on one side, the distance is 1. The test is not exact, since a side's shares hang together: where a few
    annotators give most votes, p is somewhat too small (docs/results/drift.md).
    """
    apart = np.zeros((people.max() + 1, kinds.max() + 1))
    np.add.at(apart, (people, kinds), np.where(new, -1.0 / new.sum(), 1.0 / (~new).sum()))
    both = np.bincount(kinds, weights=np.where(new, 1.0 / new.sum(), 1.0 / (~new).sum()))
    signs = chance.rng("annotators").integers(0, 2, size=(chance.permutations + 1, len(apart))) * 2.0 - 1.0
    signs[0] = 1.0
    moved = signs @ apart
    sides = [np.maximum((both + sign * moved) / 2.0, 0.0) for sign in (1.0, -1.0)]
    totals = [side.sum(axis=1, keepdims=True) for side in sides]
    shares = [side / np.maximum(total, 1e-12) for side, total in zip(sides, totals, strict=True)]
    empty = (np.minimum(*totals) < 1e-9)[:, 0]
    return np.where(empty, 1.0, total_variation(*shares))


def dealt(kinds: Ints, new: Bools, chance: Chance) -> Floats:
    """[permutations + 1] distances, first as it is, then with single votes dealt out anew."""
    counts, as_is = np.bincount(kinds), np.bincount(kinds, weights=new).astype(np.int64)
    rng, number = chance.rng("annotators"), int(new.sum())
    drawn = rng.multivariate_hypergeometric(counts, number, size=chance.permutations, method="marginals")
    of_new = np.vstack([as_is, drawn]).astype(np.float64)
    return total_variation((counts - of_new) / (len(new) - number), of_new / number)
