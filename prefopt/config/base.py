"""The base of every config branch: frozen, strict, documented by the string under each field."""

from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Branch(BaseModel):
    """A part of the config tree. Unknown keys are errors; values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Of one number, by precision."""


class Size(NamedTuple):
    """Of an image, in pixels."""

    height: Count
    width: Count

    @classmethod
    def square(cls, side: int) -> "Size":
        """As high as wide."""
        return cls(side, side)

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def _rising(of: tuple[float, float]) -> tuple[float, float]:
    if of[0] >= of[1]:
        raise ValueError(f"{list(of)} must be lo, hi with lo < hi")
    return of


Range = Annotated[tuple[Share, Share], AfterValidator(_rising)]
"""A part of a whole, from a share to a larger one."""
SplitName = Literal["train", "validation", "test"]
