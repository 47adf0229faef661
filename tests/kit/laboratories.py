"""Small laboratories: their configs, and outcomes made by hand."""

from pathlib import Path
from typing import Any

import yaml

from prefopt.config.lab import LabConfig, load_lab
from prefopt.lab.cells import Cell
from prefopt.lab.outcome import Cost, Outcome
from tests.kit.pipelines import world_tree

SEEDED = ["seed", "ingest.sources.0.seed", "inject.seed", "score.visits.seed", "evaluate.seed"]
CLEAN: dict[str, Any] = {"inject.flips": []}
FLIPS: dict[str, Any] = {"inject.flips": [{"kind": "symmetric", "rate": 0.25}]}


def lab_tree(**branches: Any) -> dict[str, Any]:
    """Two objectives, two noises, one seed; nothing is tuned."""
    return {
        "name": "small-lab",
        "run": "run.yaml",
        "seeds": [3],
        "seeded": SEEDED,
        "noises": {"clean": CLEAN, "flips 25 %": FLIPS},
        "methods": {
            "dpo": {"set": {"train.objective": {"name": "dpo", "beta": 2000}}},
            "adaptive_dpo": {"set": {"train.objective": {"name": "adaptive_dpo", "u": {"warmup": 0}}}},
        },
        "truth": "world/true",
        "workers": 2,
        **branches,
    }


def write_lab(place: Path, **branches: Any) -> Path:
    """A laboratory on a tiny run of the embedded world, as files."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "run.yaml").write_text(yaml.safe_dump(world_tree(place)))
    path = place / "lab.yaml"
    path.write_text(yaml.safe_dump(lab_tree(**branches), sort_keys=False))
    return path


def loaded(place: Path, **branches: Any) -> LabConfig:
    """The config of `write_lab`."""
    return load_lab(write_lab(place, **branches))


def outcome(cell: Cell, win_rate: float = 0.6, **fields: Any) -> Outcome:
    """A cell's outcome with this headline win rate."""
    made: dict[str, Any] = {
        "key": f"{cell.name}",
        "method": cell.method,
        "noise": cell.noise,
        "rate": cell.rate,
        "seed": cell.seed,
        "candidate": cell.candidate,
        "settings": list(cell.settings),
        "cpu": "none",
        "accuracy": 0.6,
        "accuracy_by_group": {},
        "win_rates": {"world/true": win_rate},
        "scores": {"world/true": win_rate - 0.5},
        "distance": None,
        "diversity": None,
        "flipped": 0,
        "minority": None,
        "labels": 10,
        "detected": {},
        "cost": Cost(score_forwards=0.0, train_forwards=8.0, score_seconds=1.0, train_seconds=1.0),
    }
    return Outcome(**{**made, **fields})
