"""How many promotions are chance over many nights: the gate's levels against the same level every night, on synthetic
nights. Writes nothing.

python benchmarks/gate.py --json
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from prefopt.data.ids import row_rng
from prefopt.gate.checks import one_sided
from prefopt.gate.levels import level

NIGHTS, PROMPTS, RATE = 100, 200, 0.05
Rule = Callable[[int, list[int]], float]


@dataclass(frozen=True)
class World:
    """Nights whose challenger is better than the champion with some probability, and no better else."""

    name: str
    better: float
    """Share of nights whose challenger is better."""
    win_rate: float
    """Of a better one."""


WORLDS = (
    World("never better", 0.0, 0.5),
    World("rarely better", 0.1, 0.62),
    World("often better", 0.5, 0.62),
    World("a little better", 0.5, 0.55),
)
RULES: dict[str, Rule] = {
    "same level": lambda night, promotions: RATE,
    "gate": lambda night, promotions: level(night, promotions, RATE),
}


@cache
def p_value(won: int) -> float:
    """Of so many wins on all prompts."""
    return one_sided(won, PROMPTS - won, 0.5)


def sequence(world: World, trial: int, rule: Rule) -> tuple[int, int, int]:
    """Promotions by chance, promotions, and nights with a better challenger."""
    rng = row_rng(0, "gate benchmark", world.name, trial)
    better = rng.random(NIGHTS) < world.better
    won = rng.binomial(PROMPTS, np.where(better, world.win_rate, 0.5))
    promotions: list[int] = []
    for night in range(1, NIGHTS + 1):
        if p_value(int(won[night - 1])) <= rule(night, promotions):
            promotions.append(night)
    return sum(not better[night - 1] for night in promotions), len(promotions), int(better.sum())


def measure(world: World, rule: Rule, trials: int) -> dict[str, float]:
    """Means over trials, each with its standard error."""
    found = np.array([sequence(world, trial, rule) for trial in range(trials)], dtype=np.float64)
    false, made, better = found.T
    share = false / np.maximum(made, 1.0)
    return {
        "false share of promotions": float(share.mean()),
        "standard error": float(share.std(ddof=1) / np.sqrt(trials)),
        "any false promotion": float((false > 0).mean()),
        "false promotions": float(false.mean()),
        "better ones promoted": float(((made - false).sum() / better.sum()) if better.sum() else 0.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 sequences in place of 2000")
    parser.add_argument("--json", action="store_true", help="the last line is one object of figures")
    given = parser.parse_args()
    trials = 200 if given.quick else 2000
    figures: dict[str, float] = {}
    print(f"{trials} sequences of {NIGHTS} nights, {PROMPTS} prompts, rate {RATE}")
    for world in WORLDS:
        for name, rule in RULES.items():
            found = measure(world, rule, trials)
            figures |= {f"{world.name}, {name}: {figure}": value for figure, value in found.items()}
            print(f"{world.name:16} {name:12}", "  ".join(f"{figure} {value:.4f}" for figure, value in found.items()))
    if given.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
