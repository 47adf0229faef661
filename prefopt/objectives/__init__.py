"""Training objectives: pure functions from denoising errors of pairs to a loss per pair."""

from typing import Any

from prefopt.config.objective import check_objective_name
from prefopt.objectives.adaptive_dpo import ADAPTIVE_DPO
from prefopt.objectives.adaptive_ipo import ADAPTIVE_IPO
from prefopt.objectives.base import Objective, ObjectiveResult, PairErrors
from prefopt.objectives.cdpo import CDPO
from prefopt.objectives.dmpo import DMPO
from prefopt.objectives.dpo import DPO
from prefopt.objectives.dpo_budget import DPO_BUDGET
from prefopt.objectives.dro_dpo import DRO_DPO
from prefopt.objectives.inpo import INPO
from prefopt.objectives.ipo import IPO
from prefopt.objectives.kto import KTO
from prefopt.objectives.mapo import MAPO
from prefopt.objectives.rdpo import RDPO
from prefopt.objectives.sft import SFT
from prefopt.objectives.smpo import SMPO
from prefopt.objectives.weighted_dpo import WEIGHTED_DPO

OBJECTIVES: dict[str, Objective[Any]] = {
    "sft": SFT,
    "dpo": DPO,
    "ipo": IPO,
    "cdpo": CDPO,
    "rdpo": RDPO,
    "adaptive_dpo": ADAPTIVE_DPO,
    "adaptive_ipo": ADAPTIVE_IPO,
    "smpo": SMPO,
    "kto": KTO,
    "mapo": MAPO,
    "inpo": INPO,
    "dmpo": DMPO,
    "dpo_budget": DPO_BUDGET,
    "dro_dpo": DRO_DPO,
    "weighted_dpo": WEIGHTED_DPO,
}
"""Every objective by its name in a config."""


def find_objective(name: str) -> Objective[Any]:
    """The objective of that name. Raises ValueError, naming the nearest one, if there is none."""
    check_objective_name(name)
    return OBJECTIVES[name]


__all__ = ["OBJECTIVES", "Objective", "ObjectiveResult", "PairErrors", "find_objective"]
