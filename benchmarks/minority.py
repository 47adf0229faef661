"""How well the offline minority metric u finds flipped labels, for each kind of panel, on the embedded world.

Trains plain DPO on the noisy labels to several lengths, lets reward models, those policies and the votes judge every
pair in the score stage, and computes u of each panel from the margins that the stage recorded. A second data set, in
which every pair has three votes, shows what votes can do.

    python benchmarks/minority.py
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy.stats import rankdata, spearmanr

from prefopt.config import RunConfig, load_config
from prefopt.config.evaluate import BootstrapConfig
from prefopt.data.framing import Framing
from prefopt.data.keys import reference_keys
from prefopt.data.scales import read_scales, root_mean_square, scaled_margin
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.distributed.session import start_ray, stop_ray
from prefopt.distributed.stores import draw_stores, read_errors
from prefopt.evaluation.minority import detect, label_truth, offline_u
from prefopt.evaluation.statistics import Estimate, Resampling, auroc
from prefopt.minority.metric import crowd_margin
from prefopt.minority.panel import panel_metric
from prefopt.models.sources import snapshot_weights, training_weights
from prefopt.scoring.snapshots import plan_draws
from prefopt.stages.base import StageOutput
from prefopt.stages.chain import Chain
from prefopt.stages.score import NUM_TIMESTEPS
from prefopt.world.dataset import write_dataset

CONFIG = "examples/quickstart.yaml"
RHO = 3.75
REWARDS, SNAPSHOTS = "world/", "snapshot/"
"""How the names of annotators begin."""
VOTES = 3
"""Votes on every pair of the second data set, as on the world's own pairs with several."""


@dataclass(frozen=True)
class Sizes:
    """What --quick makes smaller."""

    pairs: int
    several_pairs: int
    lengths: tuple[int, ...]
    """Optimizer steps of the snapshots."""
    draws: int
    resamples: int


FULL = Sizes(pairs=2000, several_pairs=600, lengths=(20, 60, 180), draws=4, resamples=2000)
QUICK = Sizes(pairs=160, several_pairs=80, lengths=(5, 10, 15), draws=2, resamples=300)


@dataclass(frozen=True)
class Judged:
    """A finished score stage: its pairs in order, everybody's scaled margins [M, n], and the labels' truth."""

    pairs: list[str]
    prompts: dict[str, str]
    annotators: list[str]
    margins: np.ndarray
    votes: np.ndarray
    """Every vote as an annotator of its own [V, n], NaN for pairs with fewer than two."""
    truth: pa.Table

    def rows(self, *kinds: str) -> np.ndarray:
        """The margins of annotators whose names begin so."""
        return self.margins[[name.startswith(kinds) for name in self.annotators]]


@dataclass(frozen=True)
class Found:
    """How one panel's u ranks flipped above clean labels."""

    auroc: Estimate
    confidence: float
    """AUROC of the confidence alone, without the factor that stability is."""
    capped: float
    """Share of labels whose stability is at its largest value, 1."""
    tenths: list[float]
    """Shares of flipped labels, by tenth of u."""
    fifths: list[float]

    @property
    def spearman(self) -> float:
        """Rank correlation of a tenth's number and its share."""
        return float(spearmanr(np.arange(len(self.tenths)), self.tenths).statistic)


def rises(shares: Sequence[float]) -> bool:
    """Whether no part holds a smaller share of flipped labels than the one before."""
    return bool((np.diff(shares) >= 0).all())


def settings(root: Path, overrides: Sequence[str]) -> RunConfig:
    """The demo's config, changed."""
    return load_config(CONFIG, [*overrides, "score.alpha=null", "cluster.workers=1", f"store={root}/store"])


def run_stages(config: RunConfig, run_dir: Path, stages: Sequence[str]) -> dict[str, StageOutput]:
    """Run stages; a Ray of its own each time."""
    start_ray(config.cluster, verbose=False)
    try:
        chain = Chain(config, str(run_dir), start_engine=lambda: None, progress=lambda done, total, what, how="": None)
        return {outcome.name: outcome.output for outcome in chain.run(stages)}
    finally:
        stop_ray()


def demo_world(root: Path, sizes: Sizes, say: Callable[[str], None]) -> tuple[Judged, Judged, dict[str, list[float]]]:
    """Snapshots are trained on the noisy labels, then everybody judges: the snapshots on all timesteps, and again on
    the noisier half. Also the AUROC of each snapshot's preference by part of the timesteps."""
    source = f"ingest.sources=[{{kind: world, pairs: {sizes.pairs}}}]"
    places = []
    for steps in sizes.lengths:
        plain = ["score.panel=null", "train.objective={name: dpo, beta: 2000}", f"train.steps={steps}"]
        config = settings(root, [source, *plain, "train.workers=1"])
        outputs = run_stages(config, root / "demo", ("ingest", "inject", "score", "train"))
        places.append(outputs["train"].storage.path("model"))
        say(f"plain DPO, {steps} steps: done")
    panel = [f"score.panel.snapshots=[{', '.join(places)}]", f"score.panel.snapshot_draws={sizes.draws}"]
    found: list[Judged] = []
    parts: dict[str, list[float]] = {}
    for low in (0.0, 0.5):
        config = settings(root, [source, "train.steps=1", *panel, f"score.panel.snapshot_range=[{low}, 1.0]"])
        outputs = run_stages(config, root / "demo", ("ingest", "inject", "score"))
        found.append(read_judged(outputs))
        parts |= by_timestep(config, outputs, found[-1], sizes.lengths) if low == 0.0 else {}
        say(f"panel, snapshots from {low:g} of the timesteps on: done")
    return found[0], found[1], parts


def by_timestep(
    config: RunConfig, outputs: Mapping[str, StageOutput], judged: Judged, lengths: Sequence[int]
) -> dict[str, list[float]]:
    """AUROC of each snapshot's z against the label by draw, which is by part of the timesteps; and the spread of z."""
    assert config.score.panel is not None
    pairs = read_tables(outputs["ingest"], "pairs-")
    framing = Framing.of(config.score.sizes, read_tables(outputs["ingest"], "images-"))
    draws = plan_draws(pairs, config.score.panel, NUM_TIMESTEPS, framing)
    store, keys = Storage(config.store), reference_keys(draws)
    reference = training_weights(config).reference.digest
    errors = {
        digest: read_errors(draw_stores(store, config, digest), draws, keys).astype(np.float64)
        for digest in [reference, *(source.digest for source in snapshot_weights(config))]
    }
    found = {}
    for steps, source in zip(lengths, snapshot_weights(config), strict=True):
        drop = errors[reference] - errors[source.digest]
        z = (drop[:, 0] - drop[:, 1]).reshape(len(judged.pairs), -1).T
        found[f"DPO, {steps} steps"] = [margin_auroc(judged, row, None) for row in z]
        found[f"DPO, {steps} steps, spread of z"] = z.std(axis=1).tolist()
    return found


def several_votes(root: Path, sizes: Sizes, say: Callable[[str], None]) -> Judged:
    """Rewards and votes judge pairs that several people judged."""
    data = root / "several"
    if not data.exists():
        write_dataset(data, pairs=sizes.several_pairs, seed=0, votes_per_pair=VOTES, repeated=1.0)
    source = f"ingest.sources=[{{kind: pickapic, path: {data}, group_column: user_group}}]"
    config = settings(root, [source, "train.steps=1"])
    outputs = run_stages(config, root / "voted", ("ingest", "inject", "score"))
    say("several votes per pair: done")
    return read_judged(outputs)


def read_judged(outputs: Mapping[str, StageOutput]) -> Judged:
    """The tables that the stages left. Labels are those of the splits in which labels were flipped."""
    columns = ["vote_id", "pair_id", "label", "latest"]
    labels = read_tables(outputs["inject"], "labels-", columns)
    truth = label_truth(labels, read_tables(outputs["ingest"], "votes-", columns), "each_vote")
    pairs = read_tables(outputs["ingest"], "pairs-", ["pair_id", "prompt", "split"])
    split = dict(zip(pairs["pair_id"].to_pylist(), pairs["split"].to_pylist(), strict=True))
    truth = truth.append_column("split", pa.array([split[pair] for pair in truth["pair_id"].to_pylist()]))
    scores = read_tables(outputs["score"], "scores-", ["pair_id", "margins"])
    order = scores["pair_id"].to_pylist()
    return Judged(
        pairs=order,
        prompts=dict(zip(pairs["pair_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True)),
        annotators=read_scales(outputs["score"].storage).annotators,
        margins=np.array(scores["margins"].to_pylist(), dtype=np.float64).T,
        votes=votes_as_annotators(labels, order),
        truth=truth.filter(pc.not_equal(truth["split"], "test")),
    )


def votes_as_annotators(labels: pa.Table, pairs: Sequence[str]) -> np.ndarray:
    """Scaled margins [V, n] of the votes that count: the k-th vote of a pair is its k-th annotator, NaN if it has none
    or only one. Each has the margin of a crowd of one; a label's own vote is among them."""
    given: dict[str, list[float]] = {}
    for row in labels.sort_by("vote_id").to_pylist():
        if row["latest"]:
            given.setdefault(row["pair_id"], []).append(row["label"])
    table = np.full((max(map(len, given.values())), len(pairs)), np.nan)
    for place, pair in enumerate(pairs):
        if len(given[pair]) > 1:
            table[: len(given[pair]), place] = given[pair]
    wins = torch.from_numpy(table)
    margins = crowd_margin(wins, 1.0 - wins).numpy()
    return scaled_margin(margins, root_mean_square(margins), RHO)


def measure(judged: Judged, logits: np.ndarray, split: str | None, how: Resampling, name: str) -> Found | None:
    """One panel on the labels of one split, or of both that hold flips; None if no pair has two annotators."""
    metric = panel_metric(torch.from_numpy(logits))
    known = ~np.isnan(metric.u.numpy())
    scores = {"pair_id": judged.pairs, "u": metric.u.numpy(), "stability": metric.stability.numpy()}
    truth = of_split(judged.truth, split)
    u = offline_u(truth, pa.table(scores).filter(pa.array(known)))
    found = detect(name, truth, u, judged.prompts, how, injected=True) if u is not None else None
    if u is None or found is None or found.auroc is None:
        return None
    certain = {**scores, "u": metric.confidence.numpy(), "stability": np.ones(len(known))}
    by_confidence = offline_u(truth, pa.table(certain).filter(pa.array(known)))
    assert by_confidence is not None
    judging = set(truth["pair_id"].to_pylist())
    here = known & np.array([pair in judging for pair in judged.pairs])
    u_of_labels, flipped = joined(truth, u)
    return Found(
        found.auroc,
        auroc(*joined(truth, by_confidence)),
        float((metric.stability.numpy()[here] == 1.0).mean()),
        flipped_by_part(u_of_labels, flipped, 10),
        flipped_by_part(u_of_labels, flipped, 5),
    )


def joined(truth: pa.Table, u: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """u, and whether the label was flipped."""
    both = truth.join(u, "vote_id", join_type="inner", use_threads=False)
    return both["u"].to_numpy(), np.asarray(both["flipped"].to_numpy(zero_copy_only=False), dtype=bool)


def flipped_by_part(u: np.ndarray, flipped: np.ndarray, parts: int) -> list[float]:
    """The share of flipped labels in each of so many equal parts of the labels, by u; equal u are in one part."""
    part = np.ceil(rankdata(u) / len(u) * parts).astype(int)
    return [float(flipped[part == number].mean()) for number in np.unique(part)]


def of_split(truth: pa.Table, split: str | None) -> pa.Table:
    """The labels of one split, or of both that hold flips."""
    return truth if split is None else truth.filter(pc.equal(truth["split"], split))


def margin_auroc(judged: Judged, row: np.ndarray, split: str | None) -> float:
    """How well one annotator alone tells flipped labels: AUROC of its margin against the label."""
    margin = dict(zip(judged.pairs, row, strict=True))
    truth = of_split(judged.truth, split).to_pylist()
    against = [-margin[label["pair_id"]] * np.sign(label["label"] - 0.5) for label in truth]
    return auroc(against, [label["flipped"] for label in truth])


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown."""
    print(f"\n{title}\n")
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")


def print_panels(title: str, found: Mapping[str, Mapping[str, Found | None]]) -> None:
    """AUROC of u by panel and split, of the confidence alone, and how often stability does not tell pairs apart; then
    shares of flipped labels by tenth of u."""
    columns = list(next(iter(found.values())))
    measured = {name: first for name, by_split in found.items() if (first := by_split[columns[0]])}
    head = ["panel", "labels", *(f"AUROC of u, {name}" for name in columns), "confidence alone", "stability is 1"]
    rows = [
        [
            name,
            str(first.auroc.n),
            *(shown(one.auroc) if one else "-" for one in found[name].values()),
            f"{first.confidence:.3f}",
            f"{100 * first.capped:.0f} %",
        ]
        for name, first in measured.items()
    ]
    print_table(f"{title}: AUROC of u for flipped labels", head, rows)
    head = ["panel", *map(str, range(1, 11)), "Spearman", "rises by tenths", "by fifths"]
    rows = [
        [
            name,
            *[f"{share:.2f}" for share in first.tenths] + [""] * (10 - len(first.tenths)),
            f"{first.spearman:.2f}",
            *("yes" if rises(parts) else "no" for parts in (first.tenths, first.fifths)),
        ]
        for name, first in measured.items()
    ]
    print_table(f"{title}: share of flipped labels by tenth of u", head, rows)


def shown(estimate: Estimate) -> str:
    """A figure with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def figures(prefix: str, found: Mapping[str, Mapping[str, Found | None]]) -> dict[str, float]:
    """Flat figures of every panel."""
    flat: dict[str, float] = {}
    for name, by_split in found.items():
        for split, one in by_split.items():
            if one:
                key = f"{prefix}: {name}, {split}"
                ends = {"low": one.auroc.low, "high": one.auroc.high}
                flat |= {f"{key}: auroc": one.auroc.value, f"{key}: spearman": one.spearman}
                flat |= {f"{key}: auroc {end}": value for end, value in ends.items() if value is not None}
                flat |= {f"{key}: rises by tenths": rises(one.tenths), f"{key}: rises by fifths": rises(one.fifths)}
    return flat


def single_annotators(demo: Judged, noisier: Judged, lengths: Sequence[int]) -> dict[str, dict[str, float]]:
    """AUROC of every annotator's margin against the label, by split."""
    rows = {name: row for name, row in zip(demo.annotators, demo.margins, strict=True) if name.startswith(REWARDS)}
    for judged, what in ((demo, ""), (noisier, ", noisier half")):
        rows |= {f"DPO, {n} steps{what}": row for n, row in zip(lengths, judged.rows(SNAPSHOTS), strict=True)}
    splits = ("train", "validation")
    return {name: {split: margin_auroc(demo, row, split) for split in splits} for name, row in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", default="runs/minority")
    parser.add_argument("--quick", action="store_true", help="fewer pairs, shorter training")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    sizes, started = QUICK if arguments.quick else FULL, time.monotonic()
    torch.set_num_threads(1)
    how = Resampling(BootstrapConfig(resamples=sizes.resamples), seed=0)
    root = Path(arguments.run_dir).absolute() / ("quick" if arguments.quick else "full")

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {what}", flush=True)

    demo, noisier, parts = demo_world(root, sizes, say)
    voted = several_votes(root, sizes, say)
    panels = {
        "rewards": demo.rows(REWARDS),
        "snapshots": demo.rows(SNAPSHOTS),
        "snapshots, noisier half": noisier.rows(SNAPSHOTS),
        "rewards and snapshots": demo.rows(REWARDS, SNAPSHOTS),
        "rewards and snapshots, noisier half": noisier.rows(REWARDS, SNAPSHOTS),
        "all: rewards, snapshots, crowd": demo.margins,
        "votes": demo.votes,
    }
    splits = {"both splits": None, "train": "train", "validation": "validation"}
    of_demo = {
        name: {title: measure(demo, logits, split, how, name) for title, split in splits.items()}
        for name, logits in panels.items()
    }
    panels = {
        "votes": voted.votes,
        "rewards": voted.rows(REWARDS),
        "rewards and the crowd as one": voted.margins,
        "rewards and every vote": np.concatenate([voted.rows(REWARDS), voted.votes]),
    }
    of_voted = {name: {"both splits": measure(voted, logits, None, how, name)} for name, logits in panels.items()}
    singles = single_annotators(demo, noisier, sizes.lengths)
    print_panels(f"{sizes.pairs:,} pairs", of_demo)
    print_panels(f"{sizes.several_pairs:,} pairs with {VOTES} votes each", of_voted)
    rows = [[name, *(f"{value:.3f}" for value in found.values())] for name, found in singles.items()]
    print_table("Single annotators: AUROC of the margin against the label", ["annotator", "train", "validation"], rows)
    rows = [[name, *(f"{value:.3g}" for value in values)] for name, values in parts.items()]
    head = ["snapshot", *(f"part {number}" for number in range(1, sizes.draws + 1))]
    print_table("One draw: AUROC of z against the label by part of the timesteps, the least noisy first", head, rows)
    say("all done")
    if arguments.json:
        flat = {"seconds": time.monotonic() - started, **figures("demo", of_demo), **figures("voted", of_voted)}
        flat |= {f"{name}, {split}": value for name, found in singles.items() for split, value in found.items()}
        print(json.dumps(flat, sort_keys=True))


if __name__ == "__main__":
    main()
