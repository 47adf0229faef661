"""How to run a cell of the laboratory again, alone."""

import shlex

from prefopt.lab.outcome import Outcome

RUN_DIR = "runs/cell"
"""Where a cell that is run again leaves its report."""


def command(outcome: Outcome, run: str) -> str:
    """A line for a shell; `run` is the path of the laboratory's run config."""
    settings = [part for setting in outcome.settings for part in ("--set", setting)]
    return shlex.join(["prefopt", "run", run, "--run-dir", RUN_DIR, *settings])
