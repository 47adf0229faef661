"""score: rewards, soft preference, offline minority metric, latents, and the visits that training will make."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.score import AlphaConfig
from prefopt.data.framing import Framing
from prefopt.data.ids import prompt_id
from prefopt.data.labels import training_examples, vote_share
from prefopt.data.manifest import Rows
from prefopt.data.scales import Scales, measure_scales, scaled_margin
from prefopt.data.schema import REWARDS, SCORES
from prefopt.data.tables import read_tables
from prefopt.data.visits import VisitPlan, bucket_rows, plan_visits
from prefopt.distributed.costly import CostlyRows, Latent, scored_images
from prefopt.errors import InputError
from prefopt.minority.metric import crowd_margin
from prefopt.minority.panel import panel_metric
from prefopt.objectives.smpo import reward_preference
from prefopt.rewards import reward_spec, reward_versions
from prefopt.stages.base import StageContext, StageResult, costly_rows
from prefopt.stages.keys import planned_visits
from prefopt.stages.relabel import relabelled

NUM_TIMESTEPS = 1000


def run(context: StageContext) -> StageResult:
    """Write rewards.parquet, scores.parquet, scales.json and visits-00000.parquet; costly rows go to the stores."""
    config, ingest = context.config, context.parents["ingest"]
    pairs = read_tables(ingest, "pairs-")
    labels = read_tables(context.parents["inject"], "labels-").sort_by(
        [("pair_id", "ascending"), ("vote_id", "ascending")]
    )
    costly = costly_rows(context)
    names, images = config.score.reward_names(), read_tables(ingest, "images-")
    scored: Scored | None = None
    if config.labels.relabel != "none":
        costly.fill_images(images, pairs, names, ())
        scored = _judge(config, costly, pairs, labels)
    framing = Framing.of(config.score.sizes, images)
    visits, waiting = _plan(config, pairs, labels, scored.scores if scored else None, framing)
    costly.fill_images(images, pairs, names, _wanted_latents(pairs, visits, framing))
    scored = scored or _judge(config, costly, pairs, labels)
    if config.score.visits.inversion != "none":
        costly.fill_inversions(pairs, visits)
    if config.train.reference == "cached":
        visits = costly.reference_errors(pairs, visits)
    context.output.write_bytes("scales.json", scored.scales.model_dump_json(indent=1).encode())
    context.output.write_table("scores-00000.parquet", scored.scores)
    context.output.write_table("rewards-00000.parquet", _reward_table(config, pairs, scored.rewards))
    context.output.write_table("visits-00000.parquet", visits)
    visited = len(visits["pair_id"].unique())
    return StageResult(
        rows=Rows(in_=pairs.num_rows, out=scored.scores.num_rows),
        files=["scales.json", "scores-00000.parquet", "rewards-00000.parquet", "visits-00000.parquet"],
        summary={
            "visits": visits.num_rows,
            "pairs_visited": visited,
            **_buckets(config, visits, waiting),
            **_versions(config),
        },
    )


def _buckets(config: RunConfig, visits: pa.Table, waiting: int) -> dict[str, int]:
    """Where there are several: visits of each bucket, and those that wait for others of theirs."""
    if len(config.score.sizes) == 1:
        return {}
    planned = {f"visits {size}": len(rows) for size, rows in bucket_rows(visits).items()}
    return {**planned, "visits_waiting": waiting}


def _versions(config: RunConfig) -> dict[str, int | float | str | None]:
    """What identifies each reward model, digest of its weights included."""
    found = reward_versions(config.score.reward_names(), config)
    return {f"reward {name}": version for name, version in found.items()}


@dataclass(frozen=True)
class Scored:
    """What is known of every pair."""

    rewards: dict[str, tuple[np.ndarray, np.ndarray]]
    """Of image_0 and image_1, by name."""
    scales: Scales
    scores: pa.Table


def _judge(config: RunConfig, costly: CostlyRows, pairs: pa.Table, labels: pa.Table) -> Scored:
    rewards = costly.reward_scores(pairs, config.score.reward_names())
    crowd, majority = _crowd(config, pairs, labels)
    train = np.asarray(pairs["split"].to_numpy(zero_copy_only=False) == "train")
    scales = measure_scales(
        {name: (first[train], second[train]) for name, (first, second) in rewards.items()},
        crowd[train & ~np.isnan(crowd)],
    )
    return Scored(rewards, scales, _scores(config, pairs, rewards, crowd, majority, scales))


def _plan(config: RunConfig, pairs: pa.Table, labels: pa.Table, scores: pa.Table | None, framing: Framing) -> VisitPlan:
    train = pairs.filter(pc.equal(pairs["split"], "train")).to_pylist()
    images = {pair["pair_id"]: (pair["image_0"], pair["image_1"]) for pair in train}
    votes = labels.filter(pc.is_in(labels["pair_id"], pa.array(list(images), pa.string())))
    seen = relabelled(votes, scores, config.labels)
    examples = list(training_examples(seen.to_pylist(), images, config.labels.rule))
    if not examples:
        raise InputError(
            f"No pair of the training split has a label that is not a tie ({len(train)} pairs): give more data, or"
            " lower ingest.split.validation and ingest.split.test."
        )
    micro_batch = config.train.micro_batch
    return plan_visits(examples, planned_visits(config), config.score.visits, NUM_TIMESTEPS, framing, micro_batch)


def _wanted_latents(pairs: pa.Table, visits: pa.Table, framing: Framing) -> set[Latent]:
    """Latents that training visits or the held-out accuracy need."""
    images = {row["pair_id"]: row for row in pairs.select(["pair_id", "image_0", "image_1"]).to_pylist()}
    wanted = set()
    for row in visits.to_pylist():
        for side in (0, 1):
            image = images[row["pair_id"]][f"image_{side}"]
            wanted.add(Latent(Size(*row["target"]), image, row[f"flip_{side}"]))
    for row in pairs.filter(pc.not_equal(pairs["split"], "train")).to_pylist():
        both = row["image_0"], row["image_1"]
        wanted |= {Latent(framing.bucket(*both), image, False) for image in both}
    return wanted


def _crowd(config: RunConfig, pairs: pa.Table, labels: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Per pair: the crowd's margin for image_0 (NaN without a crowd), and the share of votes for image_0."""
    votes: dict[str, list[float]] = {}
    for row in labels.select(["pair_id", "label", "latest"]).to_pylist():
        if row["latest"]:
            votes.setdefault(row["pair_id"], []).append(row["label"])
    given = [votes[pair] for pair in pairs["pair_id"].to_pylist()]
    wins = torch.tensor([sum(labels) for labels in given], dtype=torch.float64)
    count = torch.tensor([len(labels) for labels in given], dtype=torch.float64)
    margin = crowd_margin(wins, count - wins).numpy()
    panel = config.score.panel
    if panel is None or not panel.crowd:
        margin[:] = np.nan
    else:
        margin[count.numpy() < panel.crowd_votes] = np.nan
    return margin, np.asarray([vote_share(labels) for labels in given])


def _scores(
    config: RunConfig,
    pairs: pa.Table,
    rewards: dict[str, tuple[np.ndarray, np.ndarray]],
    crowd: np.ndarray,
    majority: np.ndarray,
    scales: Scales,
) -> pa.Table:
    nothing = pa.nulls(pairs.num_rows, pa.float64())
    columns: dict[str, Any] = dict.fromkeys(SCORES.names, nothing)
    columns |= {"pair_id": pairs["pair_id"], "majority": majority, "margins": pa.nulls(pairs.num_rows)}
    alpha = config.score.alpha
    if alpha:
        columns["alpha"] = _alpha(alpha, rewards[alpha.reward], scales)
    panel = config.score.panel
    if panel:
        margins = np.stack(
            [
                scaled_margin(np.subtract(*rewards[name], dtype=np.float64), scales.rewards[name].rms, panel.rho)
                for name in panel.rewards
            ]
        )
        crowd_logits = scaled_margin(crowd, scales.crowd_rms, panel.rho)
        metric = panel_metric(torch.from_numpy(margins), torch.from_numpy(crowd_logits))
        columns |= {name: value.numpy() for name, value in metric._asdict().items()}
        columns["margins"] = list(margins.T)
    return pa.table({name: columns[name] for name in SCORES.names}).cast(SCORES)


def _alpha(config: AlphaConfig, scores: tuple[np.ndarray, np.ndarray], scales: Scales) -> np.ndarray:
    scale = scales.rewards[config.reward]
    low, high = (scale.low, scale.high) if config.normalise == "scales" else (config.minimum, config.maximum)
    if low == high:
        return np.full(len(scores[0]), 0.5)
    first, second = (torch.from_numpy(side.astype(np.float64)) for side in scores)
    return reward_preference(first, second, low, high).numpy()


def _reward_table(config: RunConfig, pairs: pa.Table, rewards: dict[str, tuple[np.ndarray, np.ndarray]]) -> pa.Table:
    """One row per unique (image, prompt) and reward, sorted."""
    tables = []
    images, prompts = zip(*scored_images(pairs), strict=True)
    for name, scores in rewards.items():
        count = len(images)
        columns = [images, [prompt_id(prompt) for prompt in prompts], [name] * count]
        version = reward_spec(name, config).version
        tables.append(pa.table([*columns, [version] * count, np.concatenate(scores)], schema=REWARDS))
    if not tables:
        return REWARDS.empty_table()
    keys = ["image_id", "prompt_id", "reward", "version"]
    table = pa.concat_tables(tables).group_by(keys, use_threads=False).aggregate([("score", "min")])
    return table.rename_columns(REWARDS.names).cast(REWARDS).sort_by([(name, "ascending") for name in keys])
