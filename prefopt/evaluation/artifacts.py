"""What a pipeline shows of a finished evaluation, read from its directory."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefopt.config.evaluate import TUNED
from prefopt.data.manifest import read_manifest
from prefopt.data.storage import Storage


@dataclass(frozen=True)
class Artifacts:
    """Pages, and figures by name."""

    html: str
    markdown: str
    headline_reward: str
    figures: dict[str, float]
    roc: dict[str, list[float]] | None
    """fpr, tpr and thresholds of the minority metric; None where no flip is known."""


def read_artifacts(stage: Storage) -> Artifacts:
    """Of the evaluation in a directory. InputError if it has no valid manifest."""
    manifest, metrics = read_manifest(stage), json.loads(stage.read_bytes("metrics.json"))
    headline = str(manifest.summary["headline_reward"])
    return Artifacts(
        html=stage.read_bytes("report.html").decode(),
        markdown=stage.read_bytes("report.md").decode(),
        headline_reward=headline,
        figures=dict(_figures(metrics, headline)),
        roc=(metrics["minority"] or {}).get("roc"),
    )


def _figures(metrics: Mapping[str, Any], headline: str) -> Iterator[tuple[str, float]]:
    """The tuned model's figures, each with the ends of its interval where it has one; what is null is left out."""
    diversity = (metrics["diversity"] or {"models": {}})["models"].get(TUNED, {})
    distance = (metrics["distance_from_base"] or {"models": {}})["models"].get(TUNED)
    estimates = {
        "win_rate": metrics["models"][TUNED][headline]["win_rate"],
        "accuracy_heldout": metrics["accuracy_heldout"],
        "distance_from_base": distance,
        **{f"diversity_{name}": diversity[name] for name in sorted(diversity)},
        "minority_auroc": (metrics["minority"] or {}).get("auroc"),
    }
    for name, found in estimates.items():
        if found is None:
            continue
        ends = {"": found["value"], "_low": found["low"], "_high": found["high"]}
        yield from ((f"{name}{end}", float(value)) for end, value in ends.items() if value is not None)
