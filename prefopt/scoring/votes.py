"""People's votes, pair by pair."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

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
    latest = labels.filter(labels["latest"])
    places = pc.index_in(latest["pair_id"], pairs["pair_id"].combine_chunks())
    known = latest.filter(places.is_valid())["label"].to_numpy()
    rows = places.drop_null().to_numpy()
    count = np.bincount(rows, minlength=pairs.num_rows)
    assert count.all(), "every pair has a vote"
    return PairVotes(np.bincount(rows, weights=known, minlength=pairs.num_rows) / count, count)
