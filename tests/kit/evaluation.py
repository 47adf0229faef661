"""An evaluation's inputs, made up: finished stages with votes, labels, u, training steps and a tuned model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefopt.config import RunConfig, parse_config
from prefopt.data.ids import digest, row_normal, row_uniform
from prefopt.data.schema import IMAGES, LABELS, PAIRS, QUARANTINE, SCORES, TRUTH, VOTES
from prefopt.data.storage import Storage
from prefopt.data.visits import latent_key
from prefopt.distributed.stores import latent_stores
from prefopt.stages.base import StageContext
from tests.kit.models import LATENT_SHAPE, RESOLUTION, SIZE, tiny_pipeline
from tests.kit.stages import finished, pair_row

COLOURS, SHAPES = ("red", "blue", "green", "yellow"), ("circle", "square", "cross", "triangle")
FLIPPED = 8
STEPS = 12


def evaluation_config(model: Path, store: Path, **evaluate: Any) -> RunConfig:
    """A config for 6 prompts and 8 held-out pairs."""
    defaults: dict[str, Any] = {
        "prompt_sets": [{"kind": "heldout", "most": 6}],
        "unit_prompts": 4,
        "batch": 4,
        "sampler": {"steps": 2, "guidance": 3.0, "resolution": RESOLUTION},
        "rewards": ["world/true", "world/style"],
        "accuracy": {"pairs": 8, "draws": 3},
        "bootstrap": {"resamples": 200},
        "grid_prompts": 2,
    }
    tree = {
        "name": "kit",
        "store": str(store),
        "model": {"path": str(model)},
        "ingest": {"sources": [{"kind": "world", "pairs": 24}]},
        "inject": {"flips": [{"kind": "symmetric", "rate": 0.25}]},
        "score": {"resolution": RESOLUTION, "panel": {"rewards": ["world/style", "world/taste"]}},
        "train": {"steps": STEPS, "objective": {"name": "adaptive_dpo", "u": {"warmup": 2}}},
        "evaluate": {**defaults, **evaluate},
        "cluster": {"engine": "process", "worker_cpus": 0.5, "threads": 1},
    }
    return parse_config(tree, "kit")


def evaluation_context(directory: Path, *, test: bool = True, **evaluate: Any) -> StageContext:
    """A context whose parents and stores hold what evaluate reads. The same arguments give the same inputs."""
    model = tiny_pipeline(directory / "base", seed=0)
    config = evaluation_config(model, directory / "store", **evaluate)
    pairs = pair_rows(test)
    votes = vote_rows(pairs)
    ingest = finished(
        directory / "ingest",
        "ingest",
        {
            "pairs-00000": pa.Table.from_pylist(pairs, schema=PAIRS),
            "votes-00000": pa.Table.from_pylist(votes, schema=VOTES),
            "images-00000": pa.Table.from_pylist(
                [_image(row, side) for row in pairs for side in (0, 1)], schema=IMAGES
            ),
            "quarantine": pa.Table.from_pylist(_refused(), schema=QUARANTINE),
        },
        summary={"pairs": len(pairs), "pairs_moved_to_test": 1},
    )
    inject = finished(directory / "inject", "inject", _injected(votes), summary={"eligible": 24, "flipped": FLIPPED})
    scores = pa.Table.from_pylist([_score(row["pair_id"]) for row in pairs], schema=SCORES)
    score = finished(directory / "score", "score", {"scores-00000": scores})
    train = finished(directory / "train", "train", {"minority": _online(votes)}, extra=_trained(directory / "train"))
    _fill_latents(Storage(config.store), config, pairs)
    return StageContext(
        config=config,
        sources=(),
        parents={"ingest": ingest, "inject": inject, "score": score, "train": train},
        output=Storage(str(directory / "evaluate")),
        store=Storage(config.store),
        logs=Storage(str(directory / "logs")),
        progress=lambda done, total, what: None,
    )


def other_output(context: StageContext, directory: Path, **cluster: Any) -> StageContext:
    """The same inputs with another output directory and cluster."""
    changed = context.config.model_copy(update={"cluster": context.config.cluster.model_copy(update=cluster)})
    return replace(context, config=changed, output=Storage(str(directory)))


def pair_rows(test: bool = True) -> list[dict[str, Any]]:
    """24 pairs under 16 prompts, half of the prompts in test (or none)."""
    prompts = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    numbers = [index % len(prompts) for index in range(24)]
    rows = [
        pair_row(index, prompts[number], "test" if test and number % 2 else "train")
        for index, number in enumerate(numbers)
    ]
    return sorted(rows, key=lambda row: str(row["pair_id"]))


def vote_rows(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two votes per pair. Every sixth pair is contradicted by the second annotator, every eighth has a tie; the
    second vote of the first pair replaces an earlier one of the same annotator."""
    rows = []
    for index, pair in enumerate(pairs):
        label = float(index % 2)
        for voter in (0, 1):
            given = label
            if voter and index % 6 == 0:
                given = 1.0 - label
            if voter and index % 8 == 1:
                given = 0.5
            again = index == 0 and voter == 1
            rows.append(
                {
                    "vote_id": digest("vote", pair["pair_id"], str(voter)),
                    "pair_id": pair["pair_id"],
                    "annotator": "" if index == 2 else f"person-{0 if again else voter}",
                    "group": "noir" if voter else "majority",
                    "label": given,
                    "time": "",
                    "latest": not (index == 0 and voter == 0),
                }
            )
    return sorted(rows, key=lambda row: (str(row["pair_id"]), str(row["vote_id"])))


def step_lines(steps: int = STEPS) -> list[dict[str, Any]]:
    """Training steps as train records them."""
    return [
        {
            "step": step,
            "loss": 0.7 - 0.01 * step,
            "grad_norm": 1.0 + step % 3,
            "lr": 1e-5,
            "skipped": False,
            "accuracy": 0.5 + 0.01 * step,
            "error_w": 0.06,
            "error_l": 0.07,
            "drift_w": -1e-5 * step,
            "drift_l": None if step == 3 else 1e-5 * step,
            "logit": 0.1,
            "winner_drift": 1e-3 * step,
            "loser_drift": None if step == 3 else 2e-3 * step,
            "saturated": 0.01 * step,
            "opposed": 0.005 * step,
            "distance": 1e-5 * step,
        }
        for step in range(1, steps + 1)
    ]


def verdict_lines(steps: int = STEPS) -> list[dict[str, Any]]:
    """Verdicts as train records them, one every fourth step: warming up once, then learning."""
    return [
        {
            "step": step,
            "first": 1,
            "last": step,
            "verdict": "warming up" if step <= 4 else "learning",
            "sentence": f"Seen up to step {step}.",
            "advice": "Wait." if step <= 4 else "Nothing to do.",
            "accuracy_by_timestep": [{"value": 0.6, "low": 0.5, "high": 0.7, "n": 40}, None],
            "evaluation": None,
            "action": "go on",
            "rate": 1.0,
        }
        for step in range(4, steps + 1, 4)
    ]


def _trained(directory: Path) -> list[str]:
    tiny_pipeline(directory / "model", seed=3)
    for name, lines in (("steps.jsonl", step_lines()), ("health.jsonl", verdict_lines())):
        (directory / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["steps.jsonl", "health.jsonl", *[f"model/{name}" for name in Storage(str(directory / "model")).files()]]


def _injected(votes: list[dict[str, Any]]) -> dict[str, pa.Table]:
    train = {row["pair_id"] for row in pair_rows() if row["split"] == "train"}
    may = [row["vote_id"] for row in votes if row["pair_id"] in train and row["latest"] and row["label"] != 0.5]
    flipped = set(sorted(may)[:FLIPPED])
    labels = [
        {**row, "label": 1.0 - row["label"] if row["vote_id"] in flipped else row["label"], "flipped_by": "symmetric"}
        for row in votes
    ]
    truth = [{"vote_id": row["vote_id"], "flipped": row["vote_id"] in flipped, "group": row["group"]} for row in votes]
    return {
        "labels-00000": pa.Table.from_pylist(labels, schema=LABELS),
        "truth-00000": pa.Table.from_pylist(truth, schema=TRUTH),
    }


def _online(votes: list[dict[str, Any]]) -> pa.Table:
    rows = [
        {
            "visit_id": digest("visit", row["vote_id"], str(step)),
            "pair_id": row["pair_id"],
            "vote_id": row["vote_id"],
            "step": step,
            "u": 0.0 if step <= 2 else row_uniform(0, "online", row["vote_id"], step),
        }
        for row in votes
        for step in (2, 5, 9)
    ]
    return pa.Table.from_pylist(rows)


def _score(pair_id: str) -> dict[str, Any]:
    stability = row_uniform(0, "stability", pair_id)
    u = stability * row_uniform(0, "confidence", pair_id)
    known = {"alpha": 0.5, "confidence": 0.5, "stability": stability, "u": u, "vote_share": 1.0}
    return {"pair_id": pair_id, "margins": None, "panel_majority": 0.5, **known}


def _image(row: dict[str, Any], side: int) -> dict[str, Any]:
    return {
        "image_id": row[f"image_{side}"],
        "source": 0,
        "file": "kit",
        "row": row["source_row"],
        "column": f"jpg_{side}",
        "width": RESOLUTION,
        "height": RESOLUTION + 16 * side,
        "bytes": 1000,
    }


def _refused() -> list[dict[str, Any]]:
    reasons = (("bad_image", 1), ("bad_image", 3), ("duplicate_vote", 1))
    return [
        {"source_file": "kit", "source_row": row, "votes": votes, "reason": reason, "detail": ""}
        for row, (reason, votes) in enumerate(reasons)
    ]


def _fill_latents(store: Storage, config: RunConfig, pairs: list[dict[str, Any]]) -> None:
    keys = sorted({latent_key(row[f"image_{side}"], False) for row in pairs for side in (0, 1)})
    latents = latent_stores(store, config)[SIZE]
    cells = [latents.pack(row_normal(LATENT_SHAPE, 0, "x0", key), key) for key in keys]
    latents.append(pa.table({"key": keys, "x0": pa.array(cells, pa.binary())}))
