"""Finished evaluations, read from run directories: figures, conditions, scores, and how the models were made."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config.evaluate import BASE
from prefopt.data.manifest import MANIFEST, Manifest, read_manifest
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError
from prefopt.evaluation.protocol import METHOD, SEED, TRAINED_ON_JUDGE, Protocol
from prefopt.evaluation.statistics import Floats
from prefopt.leaderboard.records import Metrics, read_metrics

_NOTES, _METRICS = "run.json", "metrics.json"
_STAGES = ("evaluate", "compare")
"""In this order, where a directory holds both."""
_KEY = re.compile("[0-9a-f]{64}")
_AGAIN = "run `prefopt evaluate` again"


@dataclass(frozen=True)
class Training:
    """How a run made its model, as far as its manifests tell."""

    objective: str | None
    method: str | None
    steps: int | None
    seed: int | None
    flipped: int | None
    """Labels that were flipped on purpose."""
    eligible: int | None
    """Labels that could have been."""
    digest: str | None
    """Equal for runs that differ in seeds alone."""
    on_judge: bool
    """Whether the headline reward also labelled or scored the training pairs."""


@dataclass(frozen=True)
class Run:
    """A finished evaluation."""

    name: str
    key: str
    metrics: Metrics
    protocol: Protocol
    level: float
    """Of the intervals."""
    scores: dict[str, Floats]
    """[n] on the headline reward by model, the base first."""
    prompts: list[str]
    """[n] the prompt id of every image."""
    training: Training | None
    """None where models are compared without a run."""


def read_runs(places: Sequence[str]) -> list[Run]:
    """The evaluations of run directories, local or s3://, in the order given, under names that differ.

    Raises ConfigError for a directory that is named twice, is no run, or has no finished evaluation; InputError for
    one whose files cannot be read or were changed.
    """
    parts = [_parts(place) for place in places]
    for number, found in enumerate(parts):
        if found in parts[:number]:
            raise ConfigError(f"{places[number]} is given twice: name every run once.")
    return [replace(_read(place), name=name) for place, name in zip(places, distinct_names(parts), strict=True)]


def distinct_names(parts: Sequence[Sequence[str]]) -> list[str]:
    """The last part of each path; of those that share it, so many parts before it as tell them apart.

    The paths must differ.
    """
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(path[-length:]) for path, length in zip(parts, lengths, strict=True)]
        shared = [number for number, name in enumerate(names) if names.count(name) > 1]
        if not shared:
            return names
        for number in shared:
            lengths[number] += 1


def _parts(place: str) -> tuple[str, ...]:
    if "://" in place:
        scheme, _, rest = place.partition("://")
        return (f"{scheme}:", *PurePosixPath(rest).parts)
    return Path(place).resolve().parts


def _read(place: str) -> Run:
    run = Storage(place)
    stage, directory, manifest = _evaluation(run, place)
    where = f"{directory.uri}/{_METRICS}"
    metrics, protocol, level = read_metrics(_listed(directory, manifest, _METRICS), where)
    models = list(metrics.models)
    for model in models:
        if protocol.rewards.keys() - metrics.models[model].keys():
            raise InputError(f"{where} lacks figures of {model} for a reward that it names: {_AGAIN}.")
    prompts, scores = _scores(directory, manifest, [BASE, *models], protocol.headline)
    training = _training(run, manifest) if stage == "evaluate" else None
    return Run("", manifest.key, metrics, protocol, level, scores, prompts, training)


def _evaluation(run: Storage, place: str) -> tuple[str, Storage, Manifest]:
    """The stage that compared models, its directory and its manifest."""
    if run.size(_NOTES) is None:
        raise ConfigError(
            f"{place} is no run directory, as it holds no {_NOTES}: give directories that `prefopt run` or"
            " `prefopt evaluate` wrote, such as runs/quickstart."
        )
    try:
        keys = json.loads(run.read_bytes(_NOTES))
    except ValueError:
        raise InputError(f"{place}/{_NOTES} is damaged: run `prefopt run` again, which skips what is done.") from None
    stage = next((name for name in _STAGES if isinstance(keys, dict) and _is_key(keys.get(name))), None)
    if stage is None:
        raise ConfigError(
            f"{place} has no finished evaluation: run `prefopt evaluate CONFIG --run-dir {place}` for it first, or"
            " leave it out."
        )
    directory = run.child(f"{stage}/{keys[stage][:12]}")
    if directory.size(MANIFEST) is None:
        raise ConfigError(
            f"{place} names an evaluation that is not finished: {directory.uri} has no {MANIFEST}. Run `prefopt"
            f" evaluate CONFIG --run-dir {place}` for it first, or leave it out."
        )
    manifest = read_manifest(directory)
    if (manifest.stage, manifest.key) != (stage, keys[stage]):
        raise InputError(f"{directory.uri}/{MANIFEST} belongs to another evaluation than {_NOTES} names: {_AGAIN}.")
    return stage, directory, manifest


def _listed(directory: Storage, manifest: Manifest, name: str) -> bytes:
    """A file as the manifest lists it."""
    entry = next((entry for entry in manifest.files if entry.path == name), None)
    if entry is None or directory.size(name) is None:
        raise InputError(f"{directory.uri} lacks {name}: {_AGAIN}.")
    content = directory.read_bytes(name)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise InputError(f"{directory.uri}/{name} was changed after the evaluation: {_AGAIN}.")
    return content


def _scores(
    directory: Storage, manifest: Manifest, models: Sequence[str], reward: str
) -> tuple[list[str], dict[str, Floats]]:
    """Prompt ids [n], and scores [n] by model, all in one order."""
    order: list[Any] | None = None
    prompts: list[str] = []
    scores: dict[str, Floats] = {}
    for model in models:
        table = _score_table(directory, manifest, model, reward)
        prompts = table["prompt_id"].to_pylist()
        images = list(zip(prompts, table["sample"].to_pylist(), strict=True))
        if not images or order not in (None, images):
            raise InputError(f"{directory.uri}: the scores of {model} and {models[0]} are of other images: {_AGAIN}.")
        order = images
        scores[model] = table["score"].to_numpy().astype(np.float64)
    return prompts, scores


def _score_table(directory: Storage, manifest: Manifest, model: str, reward: str) -> pa.Table:
    shape = re.compile(rf"scores-{re.escape(model)}-\d{{5}}\.parquet")
    files = sorted(entry.path for entry in manifest.files if shape.fullmatch(entry.path))
    if not files:
        raise InputError(f"{directory.uri} lists no scores of {model}: {_AGAIN}.")
    columns, wanted = ["prompt_id", "sample", "score"], [("reward", "==", reward)]
    return pa.concat_tables([directory.read_table(file, columns, wanted) for file in files])


def _training(run: Storage, evaluation: Manifest) -> Training:
    train, inject = (_parent_summary(run, evaluation, stage) for stage in ("train", "inject"))
    own = evaluation.summary
    return Training(
        objective=_text(train.get("objective")),
        method=_text(train.get("method")),
        steps=_whole(train.get("steps")),
        seed=_whole(own.get(SEED)),
        flipped=_whole(inject.get("flipped")),
        eligible=_whole(inject.get("eligible")),
        digest=_text(own.get(METHOD)),
        on_judge=bool(own.get(TRAINED_ON_JUDGE)),
    )


def _parent_summary(run: Storage, evaluation: Manifest, stage: str) -> dict[str, int | float | str | None]:
    """Of the stage that the evaluation was made from; empty where it was cleaned away."""
    key = evaluation.parents.get(stage, "")
    if not _is_key(key):
        return {}
    directory = run.child(f"{stage}/{key[:12]}")
    return read_manifest(directory).summary if directory.size(MANIFEST) is not None else {}


def _is_key(value: object) -> bool:
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
