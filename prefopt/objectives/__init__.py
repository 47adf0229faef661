"""Training objectives: pure functions from denoising errors of pairs to a loss per pair."""

from typing import Any

from prefopt.objectives.adaptive_dpo import ADAPTIVE_DPO
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.dpo import DPO
from prefopt.objectives.smpo import SMPO

OBJECTIVES: dict[str, Objective[Any]] = {"dpo": DPO, "adaptive_dpo": ADAPTIVE_DPO, "smpo": SMPO}
"""Every objective by its name in a config."""

__all__ = ["OBJECTIVES", "Objective", "ObjectiveResult", "PairErrors"]
