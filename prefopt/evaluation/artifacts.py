"""What a pipeline shows of a finished evaluation, read from its directory."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefopt.config.evaluate import TUNED
from prefopt.data.manifest import MANIFEST, read_manifest
from prefopt.data.storage import Storage


@dataclass(frozen=True)
class Artifacts:
    """Pages, and figures by name."""

    uri: str
    """Of the stage's directory."""
    record: dict[str, Any]
    """The answer of the command, its rows one by one: stage, key, skipped, manifest, rows_in, rows_out ..."""
    html: str
    markdown: str
    headline_reward: str
    figures: dict[str, float]
    roc: dict[str, list[float]] | None
    """fpr, tpr and thresholds of the minority metric; None where no flip is known."""


def config_text(config: str) -> str:
    """The YAML that a string is, or that lies at the path or URI that it is: one line without ": " is a place.

    StorageError if nothing can be read there.
    """
    if "\n" in config or ": " in config:
        return config
    directory, _, name = config.rpartition("/")
    return Storage(directory or ("/" if config.startswith("/") else ".")).read_bytes(name).decode()


def read_artifacts(answer: str) -> Artifacts:
    """Of the evaluation that a line of `prefopt evaluate --json` names. InputError if it has no valid manifest."""
    record = json.loads(answer)
    uri = record["manifest"].removesuffix(f"/{MANIFEST}")
    stage = Storage(uri)
    manifest, metrics = read_manifest(stage), json.loads(stage.read_bytes("metrics.json"))
    minority = metrics["minority"] or {}
    rows = {f"rows_{name}": count for name, count in record.pop("rows").items()}
    return Artifacts(
        uri=uri,
        record={**record, **rows},
        html=stage.read_bytes("report.html").decode(),
        markdown=stage.read_bytes("report.md").decode(),
        headline_reward=str(manifest.summary["headline_reward"]),
        figures=dict(_figures(metrics, str(manifest.summary["headline_reward"]))),
        roc=minority.get("roc"),
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
