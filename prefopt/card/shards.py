"""The tables of ingest, inject and score, shard by shard and row by row beside each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prefopt.data.labels import TIE
from prefopt.data.tables import Finished

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_STEPS = float(1 << 20)
_SCORES = ["pair_id", "stability", "u", "margins"]


def exact(values: Floats) -> Floats:
    """Values rounded to 2^-20: their sums have no rounding error, whatever the order and the shards."""
    return np.asarray(np.round(values * _STEPS) / _STEPS, dtype=np.float64)


@dataclass(frozen=True)
class Panel:
    """What a panel says of the n pairs of a shard. NaN and 0 where it says nothing."""

    u: Floats
    """[n] u of the label "image_0 wins"."""
    stability: Floats
    """[n] u of the opposite label is stability - u."""
    sides: Ints
    """[2, n] how many of the panel prefer image_0, and image_1."""
    members: Ints
    """[n] how many of the panel judged the pair."""

    @property
    def majority(self) -> Ints:
        """[n] 1 where most of those with a preference prefer image_0, -1 where image_1, 0 for neither."""
        return np.asarray(np.sign(self.sides[0] - self.sides[1]), dtype=np.int64)


@dataclass(frozen=True)
class Shard:
    """The pairs of a range of ids, and their votes."""

    pairs: pa.Table
    votes: pa.Table
    """As ingest took them."""
    seen: Floats
    """[votes] the labels that training sees: some may be flipped on purpose."""
    flipped: Bools
    """[votes] which they are."""
    scores: pa.Table | None
    """A row for each pair."""

    @cached_property
    def pair(self) -> Ints:
        """[votes] row of the pair."""
        rows = pc.index_in(self.votes["pair_id"], value_set=self.pairs["pair_id"].combine_chunks())
        return np.asarray(rows.to_numpy(), dtype=np.int64)

    @cached_property
    def side(self) -> Ints:
        """[votes] 1 for image_0, -1 for image_1, 0 for a tie; as delivered."""
        return np.asarray(np.sign(self.votes["label"].to_numpy() - TIE), dtype=np.int64)

    @cached_property
    def seen_side(self) -> Ints:
        """[votes] 1 for image_0, -1 for image_1, 0 for a tie; as training sees it."""
        return np.sign(self.seen - TIE).astype(np.int64)

    @cached_property
    def latest(self) -> Bools:
        """[votes] the votes that count."""
        return np.asarray(self.votes["latest"].to_numpy(), dtype=bool)

    @cached_property
    def annotators(self) -> pa.ChunkedArray:
        """[votes] ids, empty for anonymous votes."""
        return pc.fill_null(self.votes["annotator"], "")

    def who(self, names: list[str]) -> Ints:
        """[votes] the annotator's place among the names, -1 for others."""
        found = pc.index_in(self.annotators, value_set=pa.array(names, pa.string()))
        return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)

    def per_pair(self, values: NDArray[np.generic]) -> Ints:
        """[pairs] sums of a value of each vote."""
        return np.bincount(self.pair, weights=values, minlength=self.pairs.num_rows).astype(np.int64)

    @cached_property
    def panel(self) -> Panel | None:
        """What the panel says; None without one."""
        if self.scores is None or self.scores["u"].null_count == len(self.scores):
            return None
        margins = self.scores["margins"].combine_chunks()
        of = pc.list_parent_indices(margins).to_numpy()
        values = pc.list_flatten(margins).cast(pa.float64()).to_numpy(zero_copy_only=False)

        def counted(chosen: Bools) -> Ints:
            return np.bincount(of[chosen], minlength=self.pairs.num_rows).astype(np.int64)

        u, stability = (_floats(self.scores[name]) for name in ("u", "stability"))
        return Panel(u, stability, np.stack([counted(values > 0), counted(values < 0)]), counted(~np.isnan(values)))


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Shards:
    """All shards of a run; one is in memory at a time, however often they are read."""

    ingest: Finished
    inject: Finished
    score: Finished

    def __iter__(self) -> Iterator[Shard]:
        for file in self.ingest.manifest.files_like("votes-"):
            votes = self.ingest.storage.read_table(file)
            labels = self.inject.storage.read_table(file.replace("votes-", "labels-"), ["vote_id", "label"])
            truth = self.inject.storage.read_table(file.replace("votes-", "truth-"), ["vote_id", "flipped"])
            assert votes["vote_id"].equals(labels["vote_id"]), "noise injection keeps every vote"
            assert votes["vote_id"].equals(truth["vote_id"]), "noise injection keeps every vote"
            pairs = self._pairs(file)
            yield Shard(
                pairs=pairs,
                votes=votes,
                seen=labels["label"].to_numpy(),
                flipped=np.asarray(truth["flipped"].to_numpy(), dtype=bool),
                scores=self._scores(pairs),
            )

    def pairs(self) -> Iterator[pa.Table]:
        """The pairs alone."""
        for file in self.ingest.manifest.files_like("votes-"):
            yield self._pairs(file)

    def times(self) -> Iterator[list[str | None]]:
        """When votes were given, as the source says it."""
        for file in self.ingest.manifest.files_like("votes-"):
            yield self.ingest.storage.read_table(file, ["time"])["time"].to_pylist()

    def _pairs(self, votes_file: str) -> pa.Table:
        return self.ingest.storage.read_table(votes_file.replace("votes-", "pairs-"))

    def _scores(self, pairs: pa.Table) -> pa.Table | None:
        """The scores of these pairs, in their order."""
        if not pairs.num_rows:
            return None
        ends = pc.min_max(pairs["pair_id"]).as_py()
        inside = [("pair_id", ">=", ends["min"]), ("pair_id", "<=", ends["max"])]
        files = self.score.manifest.files_like("scores-")
        found = pa.concat_tables([self.score.storage.read_table(file, _SCORES, inside) for file in files])
        rows = pc.index_in(pairs["pair_id"], value_set=found["pair_id"].combine_chunks())
        assert not rows.null_count, "every pair has a score"
        return found.take(rows)
