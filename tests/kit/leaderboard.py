"""Run directories with a finished evaluation of hand-made scores: no models, no images, no Ray."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config.evaluate import BASE, BootstrapConfig, EvaluateConfig
from prefopt.data.ids import digest, prompt_id
from prefopt.data.manifest import Manifest, Rows, commit_manifest, describe_file
from prefopt.data.storage import Storage
from prefopt.distributed.evaluate import SCORE_ROWS
from prefopt.evaluation.diversity import Diversity, FeatureFigures
from prefopt.evaluation.protocol import METHOD, SEED, TRAINED_ON_JUDGE, protocol_of, protocol_record
from prefopt.evaluation.results import Results, compare, metrics
from prefopt.evaluation.statistics import Estimate
from prefopt.prompts import Prompt, PromptList

PROMPTS = ("a red circle", "a blue square", "a green cross", "a yellow star", "a black dot", "a white line")
HEADLINE = "world/true"
BASE_SCORES = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
Scores = Mapping[str, Sequence[float]]


def made_run(
    place: Path,
    scores: Scores,
    *,
    base: Sequence[float] = BASE_SCORES,
    base_digest: str = "b" * 64,
    prompts: Sequence[str] = PROMPTS,
    distances: Mapping[str, float] | None = None,
    features: str = "vae",
    seed: int = 0,
    method: str = "adaptive_dpo",
    on_judge: int = 0,
    stage: str = "evaluate",
    versions: Mapping[str, str] | None = None,
    level: float = 0.95,
    **evaluate: Any,
) -> Path:
    """A directory with run.json and an evaluation of models by their headline scores, in two units of prompts.

    A second reward, world/style, scores every model as the base does. `tuned` has an accuracy of 0.6.
    """
    versions = versions or {HEADLINE: "1", "world/style": "1"}
    config = EvaluateConfig(rewards=tuple(versions), bootstrap=BootstrapConfig(resamples=100, level=level), **evaluate)
    found = {BASE: np.asarray(base, float), **{name: np.asarray(row, float) for name, row in scores.items()}}
    by_reward = {reward: found if reward == HEADLINE else dict.fromkeys(found, found[BASE]) for reward in versions}
    ids = [prompt_id(prompt) for prompt in prompts for _ in range(config.samples_per_prompt)]
    lists = [PromptList("mine", "file", tuple(Prompt(prompt) for prompt in prompts))]
    protocol = protocol_of(config, base_digest, lists, versions)
    results = Results(
        base_name="small",
        tie_rule=config.ties,
        models={name: compare(config, by_reward, ids, name) for name in scores},
        accuracy=Estimate(0.6, 0.5, 0.7, 8) if stage == "evaluate" else None,
        accuracy_pairs=2,
        detections=[],
        features=_features(distances, features) if distances else None,
        protocol=protocol_record(protocol, level),
    )
    key = digest(str(place)) * 2
    output = Storage(str(place / stage / key[:12]))
    output.write_bytes("metrics.json", json.dumps(metrics(results)).encode())
    files = ["metrics.json", *_write_scores(output, by_reward, ids)]
    own = {SEED: seed, METHOD: method, TRAINED_ON_JUDGE: on_judge} if stage == "evaluate" else {}
    parents = {"train": digest(key, "train") * 2, "inject": digest(key, "inject") * 2} if stage == "evaluate" else {}
    commit(output, stage, key, files, {**own, "protocol": protocol.digest}, parents)
    if parents:
        told = {"objective": method, "method": "lora", "steps": 60}
        commit(Storage(str(place / "train" / parents["train"][:12])), "train", parents["train"], [], told)
        flips = {"eligible": 50, "flipped": 10}
        commit(Storage(str(place / "inject" / parents["inject"][:12])), "inject", parents["inject"], [], flips)
    (place / "run.json").write_text(json.dumps({stage: key, **parents}))
    return place


def stage_directory(place: Path, stage: str = "evaluate") -> Path:
    """Where a run's stage lies."""
    return place / stage / str(json.loads((place / "run.json").read_text())[stage])[:12]


def commit(
    output: Storage,
    stage: str,
    key: str,
    files: Sequence[str],
    summary: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
) -> None:
    """Write the manifest of files that lie there."""
    manifest = Manifest(
        stage=stage,
        key=key,
        parents=dict(parents or {}),
        config_hash="0" * 64,
        code_version=1,
        commit="unknown",
        environment={},
        unit="image",
        rows=Rows(in_=1, out=1),
        files=[describe_file(output, name) for name in sorted(files)],
        summary=dict(summary),
    )
    commit_manifest(output, manifest)


def _write_scores(output: Storage, scores: Mapping[str, Mapping[str, Any]], ids: Sequence[str]) -> list[str]:
    samples = [ids[:place].count(name) for place, name in enumerate(ids)]
    half = len(ids) // 2
    files = []
    for model in next(iter(scores.values())):
        for unit, numbers in enumerate((range(half), range(half, len(ids)))):
            rows = [
                {
                    "prompt_id": ids[number],
                    "sample": samples[number],
                    "reward": reward,
                    "version": "1",
                    "score": found[model][number],
                }
                for number in numbers
                for reward, found in scores.items()
            ]
            files.append(f"scores-{model}-{unit:05d}.parquet")
            output.write_table(files[-1], pa.Table.from_pylist(rows, schema=SCORE_ROWS))
    return files


def _features(distances: Mapping[str, float], name: str) -> FeatureFigures:
    def near(value: float) -> Estimate:
        return Estimate(value, value - 0.01, value + 0.01, 6)

    changed = {model: Diversity(None, near(0.5), None, near(-0.125)) for model in distances}
    return FeatureFigures(
        embedder=name,
        version=f"{name} 1",
        diversity={BASE: Diversity(None, near(0.625)), **changed},
        distance_from_base={model: near(value) for model, value in distances.items()},
    )
