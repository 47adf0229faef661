"""People's votes, pair by pair."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from prefopt.data.labels import vote_share
from prefopt.minority.metric import crowd_margin


@dataclass(frozen=True)
class PairVotes:
    """The votes that count, in the order of the pairs."""

    share: np.ndarray
    """Of votes for image_0, ties as one half, float64 [n]."""
    count: np.ndarray
    """int64 [n]."""

    def crowd(self, least: int) -> np.ndarray:
        """Margins of the crowd as one annotator, NaN for pairs with fewer than `least` votes, float64 [n]."""
        wins = torch.from_numpy(self.share * self.count)
        margins: np.ndarray = crowd_margin(wins, torch.from_numpy(self.count) - wins).numpy()
        return np.where(self.count < least, np.nan, margins)


def count_votes(pairs: pa.Table, labels: pa.Table) -> PairVotes:
    """Each pair's latest votes. Every pair must have one."""
    votes: dict[str, list[float]] = {}
    for row in labels.select(["pair_id", "label", "latest"]).to_pylist():
        if row["latest"]:
            votes.setdefault(row["pair_id"], []).append(row["label"])
    given = [votes[pair] for pair in pairs["pair_id"].to_pylist()]
    return PairVotes(
        np.array([vote_share(labels) for labels in given], dtype=np.float64),
        np.array([len(labels) for labels in given], dtype=np.int64),
    )
