"""Who gains and who loses: the implicit accuracy on held-out pairs, asked of each annotator group's own votes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from prefopt.data.labels import TIE
from prefopt.evaluation.accuracy import HeldoutPair, accuracy_points
from prefopt.evaluation.significance import SignTested, corrected, tested
from prefopt.evaluation.statistics import Estimate, Floats, Resampling, mean_estimate

MOST = 100
"""Groups; of more, those with the most votes are taken."""
TEST = "exact two-sided sign test over prompts; Holm's correction over all groups"


@dataclass(frozen=True)
class GroupVote:
    """A vote of a group on a held-out pair."""

    pair_id: str
    prompt: str
    group: str
    """Empty where it is not known."""
    for_winner: bool
    """Whether it prefers the image that the majority of all votes prefers."""


@dataclass(frozen=True)
class GroupAccuracy(SignTested):
    """How far the tuned model moved towards what a group prefers, on that group's votes.

    A prompt is won if the model agrees with more of the group's (vote, draw) than it disagrees with.
    """

    OUTCOMES: ClassVar[tuple[str, str]] = ("gains", "loses")
    group: str
    votes: int
    with_majority: float
    """Share of the group's votes that are the majority's, too."""
    accuracy: Estimate
    """Share of (vote, draw) that the tuned model agrees with; an untrained model stands at 1/2."""


def group_votes(
    heldout: Iterable[HeldoutPair], rows: Iterable[Mapping[str, Any]], votes: Iterable[Mapping[str, Any]]
) -> list[GroupVote]:
    """The latest votes on held-out pairs, ties left out. `rows` are those of PAIRS, `votes` those of VOTES."""
    pairs = {pair.pair_id: pair for pair in heldout}
    first_wins = {
        row["pair_id"]: pairs[row["pair_id"]].winner == row["image_0"] for row in rows if row["pair_id"] in pairs
    }
    return [
        GroupVote(
            pair_id=vote["pair_id"],
            prompt=pairs[vote["pair_id"]].prompt,
            group=vote["group"],
            for_winner=(vote["label"] > TIE) == first_wins[vote["pair_id"]],
        )
        for vote in votes
        if vote["latest"] and vote["pair_id"] in pairs and vote["label"] != TIE
    ]


def group_accuracies(votes: Sequence[GroupVote], gaps: Mapping[str, Floats], how: Resampling) -> list[GroupAccuracy]:
    """A figure for each of the MOST largest groups, the largest first; nothing for fewer than two groups.

    `gaps` [draws] are the error gaps z of every pair, positive where the tuned model prefers the majority's winner.
    """
    groups: dict[str, list[GroupVote]] = {}
    for vote in votes:
        groups.setdefault(vote.group, []).append(vote)
    if len(groups) < 2:
        return []
    largest = sorted(groups, key=lambda name: (-len(groups[name]), name))[:MOST]
    return corrected([_group(name, groups[name], gaps, how) for name in largest])


def _group(name: str, votes: Sequence[GroupVote], gaps: Mapping[str, Floats], how: Resampling) -> GroupAccuracy:
    agreement = np.concatenate([gaps[vote.pair_id] if vote.for_winner else -gaps[vote.pair_id] for vote in votes])
    prompts = [vote.prompt for vote in votes for _ in gaps[vote.pair_id]]
    return GroupAccuracy(
        group=name,
        votes=len(votes),
        with_majority=float(np.mean([vote.for_winner for vote in votes])),
        accuracy=mean_estimate(accuracy_points(agreement), prompts, how, "accuracy by group"),
        **vars(tested(agreement, np.zeros_like(agreement), prompts)),
    )
