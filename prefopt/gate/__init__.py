"""Whether a challenger replaces the champion."""

from prefopt.gate.checks import Check
from prefopt.gate.decision import DECISION, Audit, Decision, read_decision
from prefopt.gate.levels import level

__all__ = ["DECISION", "Audit", "Check", "Decision", "level", "read_decision"]
