"""Scheduled retraining: what one night trains on, and what it starts from."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch, Count, Positive
from prefopt.config.drift import DriftConfig
from prefopt.config.hooks import HooksConfig

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RetrainConfig(Branch):
    """Nights that train on new pairs alone, with a share of old ones.

    `train.steps` is what a training from the base takes; a night that goes on from the champion takes as many as its
    new pairs are worth."""

    registry: str | None = None
    """Where the history of champions lies, local or s3://; by default `registry` in the directory of the nights."""
    min_pairs: Count = 32
    """New pairs of the training split; with fewer there is nothing to do."""
    visits_per_pair: Positive = 2.0
    """How often a night visits each new pair."""
    replay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    """Share of a night's visits that go to pairs which the champion was trained on."""
    reference: Literal["base", "champion"] = "base"
    """What a night's policy is held to."""
    full_every: Count | None = 10
    """After so many promotions the next night trains from the base, on all pairs; null: never."""
    drift: DriftConfig = DriftConfig()
    released: tuple[Count, ...] = ()
    """Records whose pairs were set aside, because the drift check spoke against them, and that a person has found to be
    good: later nights train on these pairs again."""
    hooks: HooksConfig = HooksConfig()


class ChampionConfig(Branch):
    """The champion that a night goes on from."""

    run: str
    """Its run's directory or s3:// prefix."""
    train: Digest
    """The key of its train stage."""
    digest: Digest
    """Of its weights."""
    ingest: Digest
    """The key of the ingest stage whose votes it has seen."""
    score: Digest
    """The key of the score stage whose scales stay frozen."""


class PairsConfig(Branch):
    """Pairs, by a file of their ids."""

    place: str
    sha256: Digest
    pairs: Annotated[int, Field(ge=0)]


class NightConfig(Branch):
    """One night, as `prefopt retrain` plans it once the new data are known. Nobody writes this branch by hand."""

    number: Count
    """Of the record that the night will add to the registry."""
    after: Digest | None
    """The sha256 of the record before: a decision counts only if no other came between."""
    champion: ChampionConfig | None
    """None before the first promotion: then the base stands in its place."""
    full: bool
    """Train from the base, on all pairs."""
    level: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Of the gate's test."""
    replay: Annotated[float, Field(ge=0.0, lt=1.0)]
    """Share of visits of old pairs."""
    fresh: PairsConfig
    """Training pairs that have come since the last night that decided."""
    aside: PairsConfig
    """Pairs that no night trains on, since a drift check spoke against them."""
    audited: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 0)
    """What promotions since the last one from the base have won and lost by `gate.audit`."""

    @property
    def goes_on_from(self) -> ChampionConfig | None:
        """The champion that training starts from; None where it starts from the base."""
        return None if self.full else self.champion
