"""What all ways to a cluster have in common."""

from typing import Literal

from prefopt.config.base import Branch

SubmittedStage = Literal["ingest", "score", "train", "evaluate"]


class ElsewhereConfig(Branch):
    """On a cluster."""

    stages: tuple[SubmittedStage, ...] = ("score", "train", "evaluate")
    """Those that are submitted. All others are light work, and run in their component's own pod."""
