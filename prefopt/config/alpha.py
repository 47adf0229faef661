"""The soft preference: which rewards speak for it, on which scale, and whether people's votes calibrate it."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Positive

PUBLISHED_RANGES = {"pickscore": (11.543526500463486, 28.201571106910706)}
"""By kind of reward model, in the units that prefopt's reward reports. SmPO's public code normalises the bare cosine of
PickScore by 0.11543526500463486 and 0.28201571106910706; here PickScore is exp(logit scale) x cosine, and the published
checkpoint's logit scale is CLIP's largest, ln 100: hence 100 times those. A checkpoint with another logit scale needs
constants of its own."""


class AlphaRange(Branch):
    """How scores of one reward are brought to the range from 0 to 1."""

    normalise: Literal["scales", "constants", "published"] = "scales"
    """`scales`: the frozen quantiles of the training split; `constants`: `minimum` and `maximum` as given; `published`:
    the constants of SmPO's public code, known for PickScore alone."""
    minimum: float = 0.0
    """Under `constants`, the score that becomes 0."""
    maximum: float = 1.0
    """Under `constants`, the score that becomes 1."""

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.maximum <= self.minimum:
            raise ValueError("maximum must be above minimum")
        return self


class AlphaMember(AlphaRange):
    """One reward of an ensemble."""

    weight: Positive = 1.0
    """Its share in the weighted mean; only the ratios of weights matter."""


class AlphaConfig(AlphaRange):
    """The soft preference alpha: softmax over the pair of min-max normalised scores (SmPO-Diffusion), of one reward or
    of the weighted mean of several."""

    reward: str | None = None
    """The reward model that stands for the preference; `normalise`, `minimum` and `maximum` are its own."""
    rewards: dict[str, AlphaMember] = Field(default_factory=dict)
    """In its place several: name to weight, or name to `{weight, normalise, minimum, maximum}`."""
    calibrate: Literal["none", "platt", "isotonic"] = "none"
    """Turn alpha into the share of people who prefer the image: `platt` by one slope, `isotonic` by any rising curve,
    both fitted to the votes of the training split. alpha is then a probability, no longer close to 1/2 as with the
    published range: gamma of `smpo` belongs near 1, not at 10."""

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_a_weight(cls, tree: Any) -> Any:
        rewards = tree.get("rewards") if isinstance(tree, dict) else None
        if not isinstance(rewards, dict):
            return tree
        members = {
            name: {"weight": member} if type(member) in (int, float) else member for name, member in rewards.items()
        }
        return {**tree, "rewards": members}

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.reward is None) == (not self.rewards):
            raise ValueError("alpha needs either reward or rewards, and not both")
        own = {name: getattr(self, name) for name in AlphaRange.model_fields}
        if self.rewards and own != AlphaRange().model_dump():
            raise ValueError("with rewards, normalise, minimum and maximum belong to each of them")
        return self

    def members(self) -> dict[str, AlphaMember]:
        """Every reward with its weight and range, sorted by name: the order in a config changes no result."""
        if self.reward is not None:
            return {self.reward: AlphaMember(**{name: getattr(self, name) for name in AlphaRange.model_fields})}
        return dict(sorted(self.rewards.items()))
