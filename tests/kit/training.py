"""A training stage's inputs, made up: pairs, scores, visits and latents of random numbers."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prefopt.config import RunConfig, parse_config
from prefopt.config.base import Size
from prefopt.data.framing import Framing
from prefopt.data.ids import digest, row_normal, row_uniform
from prefopt.data.schema import PAIRS, SCORES
from prefopt.data.storage import Storage
from prefopt.data.store import LatentStore, pack_array
from prefopt.data.visits import Example, latent_key, plan_visits
from prefopt.distributed.stores import REFERENCE_COLUMNS, latent_stores
from prefopt.models.shape import latent_shape
from prefopt.stages.base import StageContext
from tests.kit.models import RESOLUTION
from tests.kit.stages import finished, pair_row

NUM_PAIRS = 24
PROMPTS = ("a red circle", "a blue square", "a green cross", "a yellow circle")


def training_config(
    model: Path,
    store: Path,
    *,
    inversion: str = "none",
    grid: str = "exact",
    visits: dict[str, Any] | None = None,
    score: dict[str, Any] | None = None,
    engine: str = "ray",
    **train: Any,
) -> RunConfig:
    """A config for a few steps on two micro-batches of four pairs each. Latents are stored in float32: tests compare
    with what plain code computes of the same latents."""
    defaults: dict[str, Any] = {
        "method": "full",
        "steps": 6,
        "global_batch": 8,
        "micro_batch": 4,
        "checkpoint_every": 3,
        "optimizer": {"lr": 1e-3, "warmup_steps": 2},
        "objective": {"name": "dpo", "beta": 2000},
    }
    panel = {"rewards": ["world/style", "world/taste"]}
    visits = {"inversion": inversion, "grid": grid, "steps": 2, "drop_prompt": 0.2, "flip": 0.5, **(visits or {})}
    tree = {
        "name": "kit",
        "store": str(store),
        "model": {"path": str(model)},
        "ingest": {"sources": [{"kind": "world", "pairs": NUM_PAIRS}]},
        "score": {
            "resolution": RESOLUTION,
            "latent_dtype": "float32",
            "alpha": {"reward": "world/taste"},
            "panel": panel,
            "visits": visits,
            **(score or {}),
        },
        "train": {**defaults, **train},
        "evaluate": {"rewards": ["world/true"]},
        "cluster": {"engine": engine, "worker_cpus": 0.5, "threads": 1},
    }
    return parse_config(tree, "kit")


@dataclass
class Reported:
    """A progress that remembers its last call."""

    done: int = 0

    def __call__(self, done: int, total: int, what: str, how: str = "") -> None:
        self.done = done


def training_context(
    directory: Path,
    config: RunConfig,
    *,
    split: str = "train",
    scored: bool = True,
    broken: frozenset[int] = frozenset(),
) -> StageContext:
    """A context whose parents and stores hold what `config` needs. The same config gives the same inputs.

    The latents of `broken` pairs are not numbers.
    """
    pairs = [pair_row(index, PROMPTS[index % len(PROMPTS)], split) for index in range(NUM_PAIRS)]
    examples = [
        Example(
            row["pair_id"], digest("vote", row["pair_id"]), 0, 1, float(index % 3 > 0), row["image_0"], row["image_1"]
        )
        for index, row in enumerate(pairs)
    ]
    train, framing = config.train, Framing(config.score.sizes, _originals(pairs))
    count = train.steps * train.global_batch
    visits, _ = plan_visits(examples, count, config.score.visits, 1000, framing, train.micro_batch)
    store = Storage(config.store)
    _fill_stores(store, config, pairs, visits, broken)
    if config.train.reference == "cached":
        visits = _with_reference_errors(store, config, pairs, visits)
    held_out = [pair_row(NUM_PAIRS + index, prompt, "validation") for index, prompt in enumerate(PROMPTS)]
    every_pair = pa.Table.from_pylist([*pairs, *held_out], schema=PAIRS)
    ingest = finished(directory / "ingest", "ingest", {"pairs-00000": every_pair})
    scores = pa.Table.from_pylist([_score(row["pair_id"], scored) for row in pairs], schema=SCORES)
    score = finished(directory / "score", "score", {"visits-00000": visits, "scores-00000": scores})
    return StageContext(
        config=config,
        sources=(),
        parents={"ingest": ingest, "score": score},
        output=Storage(str(directory / "train")),
        store=store,
        logs=Storage(str(directory / "logs")),
        progress=Reported(),
    )


def _originals(pairs: list[dict[str, Any]]) -> dict[str, Size]:
    """Tall, square and wide pairs in turn; a pair's second image is larger than its first."""
    widths = (RESOLUTION // 2, RESOLUTION, 2 * RESOLUTION)
    return {
        row[f"image_{side}"]: Size((1 + side) * RESOLUTION, (1 + side) * widths[index % 3])
        for index, row in enumerate(pairs)
        for side in (0, 1)
    }


def with_workers(config: RunConfig, workers: int) -> RunConfig:
    """The same config on another number of workers."""
    return config.model_copy(update={"train": config.train.model_copy(update={"workers": workers})})


def fresh_output(context: StageContext, directory: Path) -> StageContext:
    """The same inputs, another output directory."""
    return replace(context, output=Storage(str(directory)), logs=Storage(f"{directory}-logs"), progress=Reported())


def read_steps(directory: Path) -> list[dict[str, Any]]:
    """The lines of a steps.jsonl."""
    return [json.loads(line) for line in (directory / "steps.jsonl").read_text().splitlines()]


def _score(pair_id: str, scored: bool) -> dict[str, Any]:
    def uniform(purpose: str) -> float:
        return row_uniform(0, purpose, pair_id)

    stability = uniform("stability")
    u = stability * uniform("confidence")
    known = {"alpha": uniform("alpha"), "confidence": uniform("confidence"), "stability": stability, "u": u}
    return {
        "pair_id": pair_id,
        "vote_share": 1.0,
        "panel_majority": None,
        "margins": None,
        **(known if scored else dict.fromkeys(known)),
    }


def _with_reference_errors(
    store: Storage, config: RunConfig, pairs: list[dict[str, Any]], visits: pa.Table
) -> pa.Table:
    from prefopt.distributed.references import ReferenceErrors

    prompts = {row["pair_id"]: PROMPTS.index(row["prompt"]) for row in pairs}
    indexed = visits.append_column("prompt", pa.array([prompts[pair] for pair in visits["pair_id"].to_pylist()]))
    errors = ReferenceErrors(config, store, torch.device("cpu")).measure(indexed, PROMPTS)
    for name, column in zip(REFERENCE_COLUMNS, errors.T, strict=True):
        visits = visits.set_column(visits.schema.get_field_index(name), visits.schema.field(name), pa.array(column))
    return visits


def _fill_stores(
    store: Storage, config: RunConfig, pairs: list[dict[str, Any]], visits: pa.Table, broken: frozenset[int]
) -> None:
    keys = [latent_key(row[f"image_{i}"], flip) for row in pairs for i in (0, 1) for flip in (False, True)]
    bad = {latent_key(pairs[index][f"image_{i}"], flip) for index in broken for i in (0, 1) for flip in (False, True)}
    for size, latents in latent_stores(store, config).items():
        shape = latent_shape(config, size)
        cells = [_broken(shape) if key in bad else _latent(latents, shape, key) for key in keys]
        latents.append(pa.table({"key": keys, "x0": cells}))
    if config.score.visits.inversion != "none":
        from prefopt.distributed.inversions import InvertVisits

        texts = {row["pair_id"]: row["prompt"] for row in pairs}
        work = store.child("work")
        work.write_table(
            "inversions.parquet",
            visits.append_column("prompt", pa.array([texts[pair] for pair in visits["pair_id"].to_pylist()])),
        )
        InvertVisits(config, store, work)({"start": 0, "count": visits.num_rows})
        work.delete("")


def _latent(store: LatentStore, shape: tuple[int, ...], key: str) -> bytes:
    return store.pack(row_normal(shape, 0, "x0", key), key)


def _broken(shape: tuple[int, ...]) -> bytes:
    return pack_array(np.full(shape, np.nan, np.float32))
