"""The base of every config branch: frozen, strict, documented by the string under each field."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Branch(BaseModel):
    """A part of the config tree. Unknown keys are errors; values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Of one number, by precision."""
SplitName = Literal["train", "validation", "test"]
