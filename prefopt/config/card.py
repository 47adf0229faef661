"""The data card: how much of it is listed, and whether it names annotators."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Count


class CardConfig(Branch):
    """What the data card lists. Its counts are always over all the data."""

    pairs: Annotated[int, Field(ge=0, le=100)] = 24
    """Suspicious pairs shown with their images."""
    listed: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Suspicious pairs in suspicious.csv at most, the shown ones first."""
    thumbnail: Annotated[int, Field(ge=32, le=512)] = 192
    """The longest side of a shown image, in pixels."""
    clusters: Annotated[int, Field(ge=1, le=50)] = 12
    """Groups of alike prompts at most."""
    least_votes: Count = 10
    """Annotators with fewer votes are counted and not listed."""
    annotators: Literal["hashed", "shown"] = "hashed"
    """`hashed`: a short digest stands for an annotator's id, which may be personal; `shown`: the id itself."""
    seed: int = 0
    """Of the groups of prompts."""

    @model_validator(mode="after")
    def _shown_pairs_are_listed(self) -> "CardConfig":
        if self.listed < self.pairs:
            raise ValueError(f"listed must be at least pairs, which is {self.pairs}")
        return self
