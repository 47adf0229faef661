"""What the data hold more than once: images in several pairs, and prompts in several spellings."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prefopt.card.hashes import Hashes, column_hashes, distinct, id_hashes, repeats
from prefopt.card.prompts import plain_prompt
from prefopt.data.canonical import TRAIN


@dataclass(frozen=True)
class Duplicates:
    """Counts of what appears more than once."""

    images_in_several_pairs: int
    most_pairs_of_an_image: int
    images_under_several_prompts: int
    """Prompts that differ in case, spacing or punctuation alone are one."""
    image_pairs_under_several_prompts: int
    """Two images that are judged against each other under several prompts."""
    prompts: int
    """As written."""
    prompts_in_words: int
    """Free of case, spacing and punctuation."""
    near_duplicate_groups: int
    """Prompts in words that are written in several ways."""
    near_duplicate_prompts: int
    """Ways to write them."""
    near_duplicates_across_splits: int
    """Such groups of which some pairs train and others are held out."""


@dataclass(frozen=True)
class Spellings:
    """Prompts in words, by hash in ascending order, and in how many ways each is written."""

    plain: Hashes
    ways: NDArray[np.int64]
    across: NDArray[np.bool_]
    """Whether a prompt both trains and is held out."""

    @property
    def groups(self) -> Hashes:
        """The prompts that are written in several ways: those across splits first, then by the number of ways."""
        order = np.lexsort((self.plain, -self.ways, ~self.across))
        return self.plain[order][self.ways[order] > 1]


@dataclass
class DuplicateSearch:
    """Collects a few numbers of each pair; says in the end what appears more than once."""

    _first: list[Hashes] = field(default_factory=list)
    _second: list[Hashes] = field(default_factory=list)
    _plain: list[Hashes] = field(default_factory=list)
    _written: list[Hashes] = field(default_factory=list)
    _trains: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, pairs: pa.Table) -> None:
        """Take note of the pairs of a shard."""
        self._first.append(id_hashes(pairs["image_0"]))
        self._second.append(id_hashes(pairs["image_1"]))
        self._plain.append(column_hashes(pairs["prompt"], plain_prompt))
        self._written.append(column_hashes(pairs["prompt"]))
        self._trains.append(np.asarray(pairs["split"].to_numpy() == TRAIN))

    def spellings(self) -> Spellings:
        """Which prompts are written in several ways."""
        plain, trains = np.concatenate(self._plain), np.concatenate(self._trains)
        known, ways = np.unique(distinct(plain, np.concatenate(self._written))[0], return_counts=True)
        return Spellings(known, ways, np.isin(known, plain[trains]) & np.isin(known, plain[~trains]))

    def found(self, spellings: Spellings) -> Duplicates:
        """The counts."""
        first, second, plain = (np.concatenate(part) for part in (self._first, self._second, self._plain))
        images = np.concatenate([first, second])
        uses = repeats(images)
        several = spellings.ways > 1
        return Duplicates(
            images_in_several_pairs=_repeated(uses),
            most_pairs_of_an_image=int(uses.max(initial=0)),
            images_under_several_prompts=_repeated(repeats(distinct(images, np.tile(plain, 2))[0])),
            image_pairs_under_several_prompts=_repeated(repeats(*distinct(first, second, plain)[:2])),
            prompts=int(spellings.ways.sum()),
            prompts_in_words=len(spellings.plain),
            near_duplicate_groups=int(several.sum()),
            near_duplicate_prompts=int(spellings.ways[several].sum()),
            near_duplicates_across_splits=int((several & spellings.across).sum()),
        )


def _repeated(counts: NDArray[np.int64]) -> int:
    return int((counts > 1).sum())
