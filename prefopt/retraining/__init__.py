"""Nights of retraining: what is new, what to train on it, and what became of it."""

from prefopt.retraining.night import Night, NightOutcome, Plan, registry_place
from prefopt.retraining.promotion import promote_proposal

__all__ = ["Night", "NightOutcome", "Plan", "promote_proposal", "registry_place"]
