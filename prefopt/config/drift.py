"""How far new preference data may differ from what the champion was trained on."""

from typing import Annotated

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Count, Share

Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


class Bounds(Branch):
    """From which value on a signal is worth a warning, and from which on nothing is trained until a person has
    looked."""

    warn: Share
    hold: Share | None = None
    """Never, by default."""


class DriftConfig(Branch):
    """Signals that compare new pairs with the champion's. A signal speaks if it is beyond its bound and if chance is an
    unlikely reason (`p`)."""

    p: Probability = 0.01
    """Of each signal's test, after Holm's correction over all of them."""
    rows: Count = 2000
    """At most so many pairs of each side are compared, the first in hash order."""
    permutations: Annotated[int, Field(ge=200)] = 999
    prompts: Bounds = Bounds(warn=0.3)
    """Jensen-Shannon distance of the words, between 0 and 1."""
    images: Bounds = Bounds(warn=0.3)
    """Energy distance of the images' latents, as a share of the champion's own spread."""
    annotators: Bounds = Bounds(warn=0.3)
    """Total variation distance between the annotator groups' shares of votes."""
    agreement: Bounds = Bounds(warn=0.1)
    """By how much fewer labels agree with the soft preference (alpha), or else with the panel's majority."""
    minority: Bounds = Bounds(warn=0.1)
    """By how much the mean minority metric u of the labels rises."""

    @model_validator(mode="after")
    def _p_can_be_reached(self) -> "DriftConfig":
        least = 5.0 / (self.permutations + 1)
        if least >= self.p:
            raise ValueError(
                f"with {self.permutations} permutations a corrected p is never below {least:.3g}, so that no signal can"
                f" reach {self.p:g}: raise permutations to {round(5.0 / self.p)} or more"
            )
        return self
