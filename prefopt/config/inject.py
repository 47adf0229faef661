"""Seeded label noise, for experiments that know the truth."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch, Positive, Share, SplitName


class SymmetricFlips(Branch):
    """Flip exactly round(rate * votes) of the votes, each equally likely."""

    kind: Literal["symmetric"]
    rate: Share


class GapFlips(Branch):
    """Flip each vote with probability rate * exp(-|reward gap| / scale): close pairs flip more often."""

    kind: Literal["gap"]
    rate: Share
    reward: str
    scale: Positive = 1.0


class GroupFlips(Branch):
    """Flip exactly round(rate * votes) of each annotator group's votes."""

    kind: Literal["group"]
    rates: dict[str, Share]


Flips = Annotated[SymmetricFlips | GapFlips | GroupFlips, Field(discriminator="kind")]


class InjectConfig(Branch):
    """Which labels are flipped. An empty list passes the votes through."""

    flips: tuple[Flips, ...] = ()
    seed: int = 0
    splits: tuple[SplitName, ...] = ("train", "validation")
    """Where flips happen. The test split keeps its labels by default: it is what methods are judged on."""
