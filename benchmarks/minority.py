"""How well the offline minority metric u finds flipped labels, for each kind of panel, on the embedded world.

Trains plain DPO on the noisy labels to several lengths, lets reward models, those policies and the votes judge every
pair in one score stage, and computes u of each panel from the margins that the stage recorded. A second data set, in
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
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy.stats import rankdata, spearmanr

from prefopt.config import load_config
from prefopt.config.evaluate import BootstrapConfig
from prefopt.data.scales import read_scales, root_mean_square, scaled_margin
from prefopt.data.tables import read_tables
from prefopt.distributed.session import start_ray, stop_ray
from prefopt.evaluation.minority import detect, label_truth, offline_u
from prefopt.evaluation.statistics import Estimate, Resampling, auroc
from prefopt.minority.metric import crowd_margin
from prefopt.minority.panel import panel_metric
from prefopt.stages.base import StageOutput
from prefopt.stages.chain import Chain
from prefopt.world.dataset import write_dataset

CONFIG = "examples/quickstart.yaml"
RHO = 3.75
DECILES = 10
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

    def rows(self, chosen: Callable[[str], bool]) -> np.ndarray:
        """The margins of some annotators."""
        return self.margins[[chosen(name) for name in self.annotators]]


@dataclass(frozen=True)
class Found:
    """How one panel's u ranks flipped above clean labels."""

    auroc: Estimate
    confidence: float
    """AUROC of the confidence alone, without the factor that stability is."""
    shares: list[float]
    """Of flipped labels, by tenth of u."""
    spearman: float

    @property
    def rises(self) -> bool:
        """Whether no tenth holds a smaller share of flipped labels than the one before."""
        return bool((np.diff(self.shares) >= 0).all())


def run_stages(overrides: Sequence[str], run_dir: Path, stages: Sequence[str]) -> dict[str, StageOutput]:
    """Run stages of the demo's config, changed; a Ray of its own each time."""
    config = load_config(CONFIG, [*overrides, "cluster.workers=1", f"store={run_dir.parent}/store"])
    start_ray(config.cluster, verbose=False)
    try:
        chain = Chain(config, str(run_dir), start_engine=lambda: None, progress=lambda done, total, what, how="": None)
        return {outcome.name: outcome.output for outcome in chain.run(stages)}
    finally:
        stop_ray()


def demo_world(root: Path, sizes: Sizes, say: Callable[[str], None]) -> Judged:
    """Snapshots are trained on the noisy labels, then everybody judges."""
    source = f"ingest.sources=[{{kind: world, pairs: {sizes.pairs}}}]"
    plain = [source, "score.alpha=null", "score.panel=null", "train.objective={name: dpo, beta: 2000}"]
    places = []
    for steps in sizes.lengths:
        overrides = [*plain, f"train.steps={steps}", "train.workers=1"]
        outputs = run_stages(overrides, root / "demo", ("ingest", "inject", "score", "train"))
        places.append(outputs["train"].storage.path("model"))
        say(f"plain DPO, {steps} steps: done")
    panel = [f"score.panel.snapshots=[{', '.join(places)}]", f"score.panel.snapshot_draws={sizes.draws}"]
    overrides = [source, "score.alpha=null", "train.steps=1", *panel]
    outputs = run_stages(overrides, root / "demo", ("ingest", "inject", "score"))
    say("panel of the demo's world: done")
    return read_judged(outputs)


def several_votes(root: Path, sizes: Sizes, say: Callable[[str], None]) -> Judged:
    """Rewards and votes judge pairs that several people judged."""
    data = root / "several"
    if not data.exists():
        write_dataset(data, pairs=sizes.several_pairs, seed=0, votes_per_pair=VOTES, repeated=1.0)
    source = f"ingest.sources=[{{kind: pickapic, path: {data}, group_column: user_group}}]"
    overrides = [source, "score.alpha=null", "train.steps=1"]
    outputs = run_stages(overrides, root / "voted", ("ingest", "inject", "score"))
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
    truth = judged.truth if split is None else judged.truth.filter(pc.equal(judged.truth["split"], split))
    u = offline_u(truth, pa.table(scores).filter(pa.array(known)))
    found = detect(name, truth, u, judged.prompts, how, injected=True) if u is not None else None
    if u is None or found is None or found.auroc is None:
        return None
    certain = {**scores, "u": metric.confidence.numpy(), "stability": np.ones(len(known))}
    by_confidence = offline_u(truth, pa.table(certain).filter(pa.array(known)))
    assert by_confidence is not None
    shares = flipped_by_tenth(*joined(truth, u))
    return Found(
        found.auroc,
        auroc(*joined(truth, by_confidence)),
        shares,
        float(spearmanr(np.arange(len(shares)), shares).statistic),
    )


def joined(truth: pa.Table, u: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """u, and whether the label was flipped."""
    both = truth.join(u, "vote_id", join_type="inner", use_threads=False)
    return both["u"].to_numpy(), np.asarray(both["flipped"].to_numpy(zero_copy_only=False), dtype=bool)


def flipped_by_tenth(u: np.ndarray, flipped: np.ndarray) -> list[float]:
    """The share of flipped labels in each tenth of the labels, by u; equal u are in one tenth."""
    tenth = np.ceil(rankdata(u) / len(u) * DECILES).astype(int)
    return [float(flipped[tenth == number].mean()) for number in np.unique(tenth)]


def margin_auroc(judged: Judged, row: np.ndarray, split: str) -> float:
    """How well one annotator alone tells flipped labels: AUROC of its margin against the label."""
    margin = dict(zip(judged.pairs, row, strict=True))
    truth = judged.truth.filter(pc.equal(judged.truth["split"], split)).to_pylist()
    against = [-margin[label["pair_id"]] * np.sign(label["label"] - 0.5) for label in truth]
    return auroc(against, [label["flipped"] for label in truth])


def print_panels(title: str, found: Mapping[str, Mapping[str, Found | None]]) -> None:
    """AUROC of u by panel and split, and of the confidence alone."""
    columns = list(next(iter(found.values())))
    print(
        f"\n{title}\n\n| panel | labels | {' | '.join(f'{name}: AUROC of u' for name in columns)} | confidence alone |"
    )
    print("|---|---|" + "---|" * (len(columns) + 1))
    for name, by_split in found.items():
        first = by_split[columns[0]]
        if first:
            cells = [shown(measured.auroc) if measured else "-" for measured in by_split.values()]
            print(f"| {name} | {first.auroc.n} | {' | '.join(cells)} | {first.confidence:.3f} |")


def print_tenths(title: str, found: Mapping[str, Mapping[str, Found | None]]) -> None:
    """Shares of flipped labels by tenth of u."""
    print(f"\n{title}\n\n| panel | {' | '.join(map(str, range(1, DECILES + 1)))} | Spearman | rises throughout |")
    print("|---|" + "---|" * (DECILES + 2))
    for name, by_split in found.items():
        first = next(iter(by_split.values()))
        if first:
            shares = [f"{share:.2f}" for share in first.shares] + [""] * (DECILES - len(first.shares))
            print(f"| {name} | {' | '.join(shares)} | {first.spearman:.2f} | {'yes' if first.rises else 'no'} |")


def shown(estimate: Estimate) -> str:
    """A figure with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def figures(prefix: str, found: Mapping[str, Mapping[str, Found | None]]) -> dict[str, float]:
    """Flat figures of every panel."""
    flat: dict[str, float] = {}
    for name, by_split in found.items():
        for split, measured in by_split.items():
            if measured:
                key = f"{prefix}_{name.replace(' ', '_')}_{split.replace(' ', '_')}"
                ends = {"low": measured.auroc.low, "high": measured.auroc.high}
                flat |= {f"{key}_auroc": measured.auroc.value, f"{key}_spearman": measured.spearman}
                flat |= {f"{key}_auroc_{end}": value for end, value in ends.items() if value is not None}
                flat[f"{key}_rises"] = float(measured.rises)
    return flat


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

    demo, voted = demo_world(root, sizes, say), several_votes(root, sizes, say)
    panels = {
        "rewards": demo.rows(lambda name: name.startswith("world/")),
        "snapshots": demo.rows(lambda name: name.startswith("snapshot/")),
        "rewards and snapshots": demo.rows(lambda name: name != "crowd"),
        "all": demo.margins,
        "votes": demo.votes,
    }
    of_demo = {
        name: {
            "both splits": measure(demo, logits, None, how, name),
            **{split: measure(demo, logits, split, how, name) for split in ("train", "validation")},
        }
        for name, logits in panels.items()
    }
    rewards = voted.rows(lambda name: name.startswith("world/"))
    of_voted = {
        name: {"both splits": measure(voted, logits, None, how, name)}
        for name, logits in {
            "votes": voted.votes,
            "rewards": rewards,
            "rewards and the crowd as one": voted.margins,
            "rewards and every vote": np.concatenate([rewards, voted.votes]),
        }.items()
    }
    print_panels("Panels, on the demo's world", of_demo)
    print_tenths("Share of flipped labels by tenth of u", of_demo)
    print_panels("Panels, where every pair has three votes", of_voted)
    print_tenths("Share of flipped labels by tenth of u, three votes", of_voted)
    print("\nSingle annotators: AUROC of the margin against the label")
    print("\n| annotator | train | validation |\n|---|---|---|")
    singles = dict(zip(demo.annotators, demo.margins, strict=True))
    names = [name for name in singles if name != "crowd"]
    called = dict(zip(names[-len(sizes.lengths) :], sizes.lengths, strict=True))
    flat: dict[str, Any] = {"seconds": time.monotonic() - started, **figures("demo", of_demo)}
    flat |= figures("three_votes", of_voted)
    for name in names:
        label = f"DPO, {called[name]} steps" if name in called else name
        values = {split: margin_auroc(demo, singles[name], split) for split in ("train", "validation")}
        print(f"| {label} | {values['train']:.3f} | {values['validation']:.3f} |")
        flat |= {f"single_{label}_{split}": value for split, value in values.items()}
    say("all done")
    if arguments.json:
        print(json.dumps(flat, sort_keys=True))


if __name__ == "__main__":
    main()
