"""When a challenger takes the champion's place."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch, Count, Positive, Share


class AuditConfig(Branch):
    """A judge that no promotion is chosen by, so that it shows whether promotions are more than luck.

    Its figures are written down every night. A promotion that it speaks against, over all nights since the last
    promotion from the base, waits for a person."""

    reward: str
    """One of `evaluate.rewards`, not the first."""
    prompt_set: str
    """The name of one of `evaluate.prompt_sets`, which the gate's own test then leaves out."""
    tolerance: Share = 0.05
    """How far the audit's win rate over the champion may lie below one half."""


class GateConfig(Branch):
    """Champion against challenger, on the same prompts from the same noise."""

    mode: Literal["propose", "auto"] = "propose"
    """`propose`: a passed test waits for `prefopt promote` by a named person; `auto`: it promotes."""
    win_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """The bar. The challenger wins against the champion, on the first of `evaluate.rewards`, on more than this share of
    the prompts that are no tie: an exact one-sided test says so at the night's level, and the paired interval's lower
    end lies above it."""
    false_promotions: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Of all promotions, the share that may be chance, however many nights there are: LORD++ gives each its level."""
    slice_tolerance: Share = 0.1
    """How far the win rate over the champion may lie below one half in a slice (category of a prompt set)."""
    accuracy_tolerance: Share = 0.05
    """How far the implicit accuracy may fall below the champion's: on new held-out pairs, on old ones, and on the votes
    of every annotator group."""
    slice_prompts: Count = 20
    """Slices and groups with fewer prompts are shown, and not judged."""
    distance: Positive = 1.0
    """The largest distance from the base, in units of the base's own diversity across prompts."""
    diversity: Share = 0.8
    """The smallest share of the base's diversity across prompts that must be left."""
    audit: AuditConfig | None = None


OUTSIDE_KEYS = frozenset({"mode", "false_promotions"})
"""Fields of GateConfig that no decision's figures depend on; the night's level stands for the second."""
