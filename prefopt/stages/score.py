"""score: rewards, soft preference, offline minority metric, latents, and the visits that training will make."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.data.framing import Framing
from prefopt.data.labels import training_examples
from prefopt.data.manifest import Rows
from prefopt.data.pair_lists import read_pairs
from prefopt.data.scales import SCALES
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.data.visits import Replay, VisitPlan, bucket_rows, plan_visits
from prefopt.distributed.costly import CostlyRows, Latent
from prefopt.errors import InputError
from prefopt.models.sources import WeightsSource, snapshot_weights, training_weights
from prefopt.rewards import reward_versions
from prefopt.scoring.judging import Evidence, Judgement, judge
from prefopt.scoring.panel import snapshot_name
from prefopt.scoring.reliability import RELIABILITY
from prefopt.scoring.snapshots import implicit_preference, plan_draws
from prefopt.scoring.tables import reward_table
from prefopt.scoring.votes import count_votes
from prefopt.stages.base import StageContext, StageResult, costly_rows
from prefopt.stages.champion import champion_ingest, champion_scales, known_pairs
from prefopt.stages.keys import planned_visits
from prefopt.stages.relabel import relabelled

NUM_TIMESTEPS = 1000
Summary = dict[str, int | float | str | None]


def run(context: StageContext) -> StageResult:
    """Write rewards.parquet, scores.parquet, scales.json, visits-00000.parquet, and reliability.json where there is an
    alpha; costly rows go to the stores."""
    config, ingest = context.config, context.parents["ingest"]
    pairs = read_tables(ingest, "pairs-")
    labels = read_tables(context.parents["inject"], "labels-").sort_by(
        [("pair_id", "ascending"), ("vote_id", "ascending")]
    )
    costly = costly_rows(context)
    names, images = config.score.reward_names(), read_tables(ingest, "images-")
    snapshots = snapshot_weights(config)
    framing = Framing.of(config.score.sizes, images)
    draws = VISITS.empty_table()
    if config.score.panel and snapshots:
        draws = plan_draws(pairs, config.score.panel, NUM_TIMESTEPS, framing)
    drawn = _plain_latents(pairs.filter(pc.is_in(pairs["pair_id"], draws["pair_id"].combine_chunks())), framing)
    judgement: Judgement | None = None
    if config.labels.relabel != "none":
        costly.fill_images(images, pairs, names, drawn)
        judgement = _judge(config, costly, pairs, labels, draws, snapshots)
    visits, waiting = _plan(config, pairs, labels, judgement.scores if judgement else None, framing)
    held_out = _plain_latents(pairs.filter(pc.not_equal(pairs["split"], "train")), framing)
    costly.fill_images(images, pairs, names, _visited_latents(pairs, visits) | drawn | held_out)
    judgement = judgement or _judge(config, costly, pairs, labels, draws, snapshots)
    if config.score.visits.inversion != "none":
        costly.fill_inversions(pairs, visits)
    if config.train.reference == "cached":
        visits = costly.reference_errors(pairs, visits)
    versions = reward_versions(names, config)
    return StageResult(
        rows=Rows(in_=pairs.num_rows, out=judgement.scores.num_rows),
        files=_write(context.output, judgement, reward_table(pairs, judgement.evidence.rewards, versions), visits),
        summary={
            "visits": visits.num_rows,
            "pairs_visited": len(visits["pair_id"].unique()),
            **_buckets(config, visits, waiting),
            **_panel_summary(judgement, pairs, draws, snapshots),
            **{f"reward {name}": version for name, version in versions.items()},
        },
    )


def _write(output: Storage, judgement: Judgement, rewards: pa.Table, visits: pa.Table) -> list[str]:
    tables = {"scores": judgement.scores, "rewards": rewards, "visits": visits}
    for name, table in tables.items():
        output.write_table(f"{name}-00000.parquet", table)
    records = {SCALES: judgement.scales, RELIABILITY: judgement.reliability}
    kept = {name: record for name, record in records.items() if record is not None}
    for name, record in kept.items():
        output.write_bytes(name, record.model_dump_json(indent=1).encode())
    return [*(f"{name}-00000.parquet" for name in tables), *kept]


def _buckets(config: RunConfig, visits: pa.Table, waiting: int) -> dict[str, int]:
    """Where there are several: visits of each bucket, and those that wait for others of theirs."""
    if len(config.score.sizes) == 1:
        return {}
    planned = {f"visits {size}": len(rows) for size, rows in bucket_rows(visits).items()}
    return {**planned, "visits_waiting": waiting}


def _panel_summary(
    judgement: Judgement, pairs: pa.Table, draws: pa.Table, snapshots: Sequence[WeightsSource]
) -> Summary:
    """Who sat on the panel, and how many pairs its snapshots did not judge."""
    summary: Summary = {}
    if judgement.scales.annotators:
        summary["annotators"] = ", ".join(judgement.scales.annotators)
    if snapshots:
        judged = len(draws["pair_id"].unique())
        summary |= {"pairs_with_snapshots": judged, "pairs_without_snapshots": pairs.num_rows - judged}
        summary |= {snapshot_name(source.digest): source.name for source in snapshots}
    return summary


def _judge(
    config: RunConfig,
    costly: CostlyRows,
    pairs: pa.Table,
    labels: pa.Table,
    draws: pa.Table,
    snapshots: Sequence[WeightsSource],
) -> Judgement:
    """Needs the pairs' rewards, and the latents of the draws."""
    rewards = costly.reward_scores(pairs, config.score.reward_names())
    preferences: dict[str, np.ndarray] = {}
    if snapshots:
        reference = training_weights(config).reference
        errors = costly.draw_errors(pairs, draws, [reference, *snapshots])
        for source in snapshots:
            name = snapshot_name(source.digest)
            of_snapshot = (errors[reference.digest], errors[source.digest])
            preferences[name] = implicit_preference(pairs["pair_id"].to_pylist(), draws, *of_snapshot, name)
    champion = config.night.goes_on_from if config.night else None
    frozen = champion_scales(champion) if champion else None
    return judge(config, pairs, Evidence(rewards, preferences, count_votes(pairs, labels)), frozen)


def _plan(config: RunConfig, pairs: pa.Table, labels: pa.Table, scores: pa.Table | None, framing: Framing) -> VisitPlan:
    train = pairs.filter(pc.equal(pairs["split"], "train"))
    votes = labels.filter(pc.is_in(labels["pair_id"], train["pair_id"].combine_chunks()))
    voters = len(config.score.panel.rewards) if config.score.panel else 0
    seen = relabelled(votes, scores, config.labels, voters)
    ids, *sides = (train[name].to_pylist() for name in ("pair_id", "image_0", "image_1"))
    aside = read_pairs(config.night.aside.place, config.night.aside.sha256) if config.night else frozenset()
    paired = zip(ids, zip(*sides, strict=True), strict=True)
    images = {pair: both for pair, both in paired if pair not in aside}
    examples = list(training_examples(_votes(seen), images, config.labels.rule))
    if not examples:
        raise InputError(
            f"No pair of the training split has a label that is not a tie ({train.num_rows} pairs): give more data, or"
            " lower ingest.split.validation and ingest.split.test."
        )
    micro_batch, replay = config.train.micro_batch, _replay(config, labels)
    return plan_visits(
        examples, planned_visits(config), config.score.visits, NUM_TIMESTEPS, framing, micro_batch, replay
    )


def _replay(config: RunConfig, labels: pa.Table) -> Replay | None:
    night = config.night
    champion = night.goes_on_from if night else None
    if night is None or champion is None:
        return None
    return Replay(known_pairs(labels, champion_ingest(champion)), night.replay, champion.ingest)


def _votes(labels: pa.Table) -> Iterator[dict[str, Any]]:
    for part in labels.select(["pair_id", "vote_id", "label", "latest"]).to_batches(max_chunksize=4096):
        yield from part.to_pylist()


def _visited_latents(pairs: pa.Table, visits: pa.Table) -> set[Latent]:
    """Latents that training visits need."""
    places = pc.index_in(visits["pair_id"], pairs["pair_id"].combine_chunks())
    sizes = [Size(*target) for target in visits["target"].to_pylist()]
    wanted: set[Latent] = set()
    for side in (0, 1):
        images, flips = pairs[f"image_{side}"].take(places), visits[f"flip_{side}"]
        wanted |= set(map(Latent, sizes, images.to_pylist(), flips.to_pylist()))
    return wanted


def _plain_latents(pairs: pa.Table, framing: Framing) -> set[Latent]:
    """Latents of the pairs' images as they are: for the held-out accuracy, and for policy snapshots."""
    sides = zip(pairs["image_0"].to_pylist(), pairs["image_1"].to_pylist(), strict=True)
    return {Latent(framing.bucket(*both), image, False) for both in sides for image in both}
