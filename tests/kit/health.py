"""Training figures, made up: the errors of pairs under a policy that moves as told, and recorded runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prefopt.health.signals import StepSignals, step_signals

RECORDED = Path(__file__).parents[1] / "health" / "recorded"
BUCKETS, TIMESTEPS = 5, 1000

Values = dict[str, np.ndarray]


def pair_values(
    rng: np.random.Generator,
    *,
    pairs: int = 32,
    beta: float = 2000.0,
    winner: float,
    loser: float,
    spread: float = 0.002,
) -> Values:
    """A batch under plain DPO. The policy's errors are the reference's, times 1 + `winner` or 1 + `loser`, and noise.

    `spread` is the noise of an error, as a share of it.
    """
    reference = 0.1 * np.exp(0.5 * rng.standard_normal((2, pairs)))
    moved = 1.0 + np.array([[winner], [loser]]) + spread * rng.standard_normal((2, pairs))
    error = reference * moved
    z = (reference[0] - reference[1]) - (error[0] - error[1])
    logit = 0.5 * beta * z
    return {
        "loss": np.logaddexp(0.0, -logit),
        "logit": logit,
        "timestep": rng.integers(0, TIMESTEPS, pairs).astype(np.float64),
        "error_w": error[0],
        "error_l": error[1],
        "reference_w": reference[0],
        "reference_l": reference[1],
        "distance": np.square(error - reference).mean(axis=0),
    }


def signals_of(step: int, values: Values, *, applied: bool = True, grad_norm: float = 1.0) -> StepSignals:
    """The signals of a batch, in five parts of 1000 timesteps."""
    return step_signals(step, values, applied=applied, grad_norm=grad_norm, buckets=BUCKETS, num_timesteps=TIMESTEPS)


def recorded(name: str) -> Iterator[StepSignals]:
    """The signals of a real run of the embedded world, step by step."""
    for line in (RECORDED / f"{name}.jsonl").read_text().splitlines():
        yield StepSignals.from_json(json.loads(line))
