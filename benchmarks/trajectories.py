"""Does inverting an image with the model that drew it tell the x_t it was drawn through, and what is that worth?

The embedded world's model draws two images for each of some prompts by deterministic DDIM, and every x_t on the way
is kept. From x_0 alone come stand-ins of x_t: random noise, DDIM inversion, ReNoise. Each is held against the true x_t:
how far it is, what DPO's objective makes of it for a policy that was trained on other such pairs, and where its
gradient points. SmPO's logit is DPO's times a factor of each pair that does not depend on the noise.

    python benchmarks/trajectories.py [--quick] [--json] [--picture docs/results/trajectories.svg]
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import rankdata
from trajectory_lab import MODEL, RANDOM, SEED, Held, Lab, Look, Pairs, Size, StandIn, hold, look, mean_of, variances

from prefopt.config.evaluate import BootstrapConfig
from prefopt.data.ids import row_rng
from prefopt.evaluation.statistics import Estimate, Floats, Resampling
from prefopt.models.identity import model_digest
from prefopt.world import WORLD_VERSION

GUIDANCE = 5.0
FULL = Size()
QUICK = Size(pairs=4, trained=8, training_steps=2, levels=(499,), sampling_steps=10, draws=2)
RENOISE_5 = StandIn("ReNoise, 5 levels", {"num_steps": 5, "renoise_steps": 1})
RENOISE_25 = StandIn("ReNoise, 25 levels", {"num_steps": 25, "renoise_steps": 1})
FEW = (RANDOM, RENOISE_5, RENOISE_25)
STAND_INS = (
    RANDOM,
    StandIn("DDIM, 5 levels", {"num_steps": 5, "renoise_steps": 0}),
    RENOISE_5,
    StandIn("ReNoise, 5 levels, published grid", {"num_steps": 5, "renoise_steps": 1, "grid": "reference"}),
    StandIn("DDIM, 25 levels", {"num_steps": 25, "renoise_steps": 0}),
    RENOISE_25,
    StandIn("ReNoise, 25 levels, noise at rms 1", RENOISE_25.inversion, unit=True),
    StandIn("fixed point, the sampler's levels", {"renoise_steps": 5, "average": (5, 6)}, own_grid=True),
    StandIn("DDIM, the sampler's levels, from the true first one", {}, told_first=True),
)
MEAN = "random noise, mean of all draws"
ANOTHER = "random noise against another draw"
Found = dict[str, dict[int, list[Held]]]
"""By stand-in and level, one for each draw."""
Statistic = Callable[[Held, np.ndarray], Floats]
"""(what was found at a level, rows [R, N] of R resamples of the pairs) to [R]."""


def mean(name: str) -> Statistic:
    """The mean over pairs."""
    return lambda held, rows: held.pairs[name][rows].mean(axis=1)


def rank_correlation(held: Held, rows: np.ndarray) -> Floats:
    """Spearman's, over pairs, of the logit with the true one."""
    ranks = [rankdata(of[rows], axis=1) for of in (held.logit, held.true_logit)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    return np.asarray((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)))


def batch_cosine(held: Held, rows: np.ndarray) -> Floats:
    """Of the mean gradient of all pairs with the true one."""
    cross, own, true = (_of_sums(products, rows) for products in (held.cross, held.own, held.true))
    return np.asarray(cross / np.sqrt(own * true))


def length_ratio(held: Held, rows: np.ndarray) -> Floats:
    """Of the pairs' gradients, root mean squares."""
    own, true = (np.diagonal(products)[rows].mean(axis=1) for products in (held.own, held.true))
    return np.asarray(np.sqrt(own / true))


def draw_share(held: Held, rows: np.ndarray) -> Floats:
    """The share of the noise draw in the variance of one pair's gradient, over draws and pairs; for means of draws."""
    n = rows.shape[1]
    one, of_mean = (held.pairs[name][rows].mean(axis=1) for name in ("draw_variance", "draw_variance_of_mean"))
    spread = (np.diagonal(held.own)[rows].mean(axis=1) - _of_sums(held.own, rows) / n**2) * n / (n - 1)
    return np.asarray(one / (one + spread - of_mean))


def halves_cosine(held: Held, rows: np.ndarray) -> Floats:
    """Of the true mean gradients of two random halves of the pairs."""
    order = row_rng(SEED, "trajectories/halves").permuted(rows, axis=1)
    first, second = order[:, : rows.shape[1] // 2], order[:, rows.shape[1] // 2 :]
    cross = held.true[first[:, :, None], second[:, None, :]].sum(axis=(1, 2))
    return np.asarray(cross / np.sqrt(_of_sums(held.true, first) * _of_sums(held.true, second)))


def _of_sums(products: Floats, rows: np.ndarray) -> Floats:
    """The inner product of two sums over the same rows, from all single ones."""
    counts = np.stack([np.bincount(row, minlength=len(products)) for row in rows]).astype(np.float64)
    return np.asarray(((counts @ products) * counts).sum(axis=1))


STATISTICS: dict[str, tuple[str, Statistic]] = {
    "distance": ("distance of x_t", mean("distance")),
    "noise_cosine": ("cosine of the noise", mean("noise_cosine")),
    "noise_rms": ("noise, rms", mean("noise_rms")),
    "residual": ("residual of the reference", mean("residual")),
    "rank_correlation": ("rank correlation of the logit", rank_correlation),
    "logit_error": ("error of the logit", mean("logit_error")),
    "loss_error": ("error of the loss", mean("loss_error")),
    "gradient_cosine": ("cosine of a pair's gradient", mean("gradient_cosine")),
    "batch_cosine": ("cosine of the batch's gradient", batch_cosine),
    "length_ratio": ("length of a pair's gradient", length_ratio),
    "draw_share": ("share of the draw in the variance", draw_share),
}
NEEDS = {"distance": "distance", "noise_cosine": "distance", "noise_rms": "distance", "draw_share": "draw_variance"}
"""Statistics that not every stand-in has, and the value of pairs that they need."""


def estimate(statistic: Statistic, held: Sequence[Held], how: Resampling) -> Estimate:
    """The mean of a statistic over levels and draws. A resample draws prompts, each with all that belongs to it, and
    the same ones for every figure."""
    n = len(held[0].logit)
    drawn = how.rng("trajectories").integers(n, size=(how.bootstrap.resamples, n))
    rows = np.concatenate([np.arange(n)[None], drawn])
    values = np.mean([statistic(one, rows) for one in held], axis=0)
    low, high = np.nanquantile(values[1:], how.ends())
    return Estimate(float(values[0]), float(low), float(high), n)


def measure(lab: Lab, policy: Any, pairs: Pairs, known: Pairs, stand_ins: Sequence[StandIn], draws: int) -> Found:
    """Hold stand-ins that are made from `known` against the truth in `pairs`."""
    found: Found = {}
    for level in lab.size.levels:
        t = torch.full((len(pairs.x0),), level)
        truth = look(lab, policy, pairs, pairs.path[level], level)
        for how in stand_ins:
            looks: list[Look] = []
            for draw in range(draws if how.inversion is None else 1):
                looks.append(look(lab, policy, known, lab.stand_in(how, known, t, (level, draw)), level))
            found.setdefault(how.name, {})[level] = [hold(one, truth) for one in looks]
            if len(looks) > 1:
                mean_look, (one, of_mean) = hold(mean_of(looks), truth), variances(looks)
                values = {**mean_look.pairs, "draw_variance": one, "draw_variance_of_mean": of_mean}
                found.setdefault(MEAN, {})[level] = [replace(mean_look, pairs=values)]
                found.setdefault(ANOTHER, {})[level] = [hold(*two) for two in pairwise(looks)]
    return found


def figures_of(found: Found, how: Resampling) -> dict[str, dict[str, Estimate]]:
    """By stand-in and figure, means over levels; and by `<figure>, t = <level>`."""
    figures: dict[str, dict[str, Estimate]] = {}
    for name, levels in found.items():
        rows = figures.setdefault(name, {})
        kinds = [kind for kind in STATISTICS if NEEDS.get(kind, "loss_error") in next(iter(levels.values()))[0].pairs]
        for kind in kinds:
            rows[kind] = estimate(STATISTICS[kind][1], [one for held in levels.values() for one in held], how)
            for level, held in levels.items():
                rows[f"{kind}, t = {level}"] = estimate(STATISTICS[kind][1], held, how)
    return figures


def truth_of(found: Found, how: Resampling) -> dict[str, Any]:
    """What the figures are to be read against: the logit and loss at the true x_t, and how far batches agree there."""
    held = [levels[0] for levels in next(iter(found.values())).values()]
    logits = np.stack([one.true_logit for one in held])
    halves = [float(halves_cosine(one, np.tile(np.arange(len(one.logit)), (200, 1))).mean()) for one in held]
    true_loss = np.logaddexp(0.0, -logits)
    return {
        "logit, rms": float(np.sqrt((logits**2).mean())),
        "logit, mean": float(logits.mean()),
        "loss, mean": float(true_loss.mean()),
        "noise, rms": float(np.mean([one.pairs["true_noise_rms"].mean() for one in held])),
        "residual of the reference": float(np.mean([one.pairs["true_residual"].mean() for one in held])),
        "cosine of two halves' gradients": float(np.mean(halves)),
    }


def cell(figure: Estimate | None) -> str:
    """As a table has it."""
    return "-" if figure is None else f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def table(figures: Mapping[str, Mapping[str, Estimate]], kinds: Sequence[str]) -> None:
    """Stand-ins by figures."""
    print(f"| x_t | {' | '.join(STATISTICS[kind][0] for kind in kinds)} |\n|{'---|' * (1 + len(kinds))}")
    for name, row in figures.items():
        print(f"| {name} | {' | '.join(cell(row.get(kind)) for kind in kinds)} |")


def table_by_level(figures: Mapping[str, Mapping[str, Estimate]], levels: Sequence[int], kinds: Sequence[str]) -> None:
    """Figures by level, of some stand-ins."""
    print(f"| figure | x_t | {' | '.join(f't = {level}' for level in levels)} |\n|{'---|' * (2 + len(levels))}")
    for kind in kinds:
        for name, row in figures.items():
            if kind in row:
                cells = " | ".join(cell(row[f"{kind}, t = {level}"]) for level in levels)
                print(f"| {STATISTICS[kind][0]} | {name} | {cells} |")


def draw_picture(file: str, figures: Mapping[str, Mapping[str, Estimate]], levels: Sequence[int]) -> None:
    """Four figures over t, with their intervals."""
    shown = {
        RANDOM.name: ("#c0392b", "o", "-"),
        MEAN: ("#c0392b", "o", ":"),
        "DDIM, 5 levels": ("#9aa5b1", "s", "-"),
        RENOISE_5.name: ("#b7791f", "D", "-"),
        RENOISE_25.name: ("#2b4c7e", "^", "-"),
    }
    with matplotlib.rc_context({"svg.hashsalt": "prefopt", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8.4, 6.4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).flat
        for axes, kind in zip(
            panels, ("noise_cosine", "rank_correlation", "gradient_cosine", "batch_cosine"), strict=True
        ):
            for turn, (name, (colour, marker, line)) in enumerate(shown.items()):
                row = figures.get(name, {})
                at = [level + 8 * (turn - 2) for level in levels if f"{kind}, t = {level}" in row]
                told = [row[f"{kind}, t = {level}"] for level in levels if f"{kind}, t = {level}" in row]
                axes.vlines(at, [one.low for one in told], [one.high for one in told], color=colour, linewidth=1)
                values = [one.value for one in told]
                axes.plot(at, values, line, color=colour, marker=marker, markersize=5, label=name, linewidth=1.4)
            axes.axhline(0.0, color="#9aa5b1", linewidth=0.6)
            axes.set_title(STATISTICS[kind][0] + ", with the true x_t", fontsize=10)
            axes.set_ylim(top=1.02)
        for axes in figure.axes[2:]:
            axes.set_xlabel("t")
        handles, labels = figure.axes[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 pairs, one level, two draws, 10 steps of DDIM")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    parser.add_argument("--picture", metavar="FILE", help="draw the figures over t as SVG")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = QUICK if arguments.quick else FULL
    how = Resampling(BootstrapConfig(resamples=200 if arguments.quick else 2000), SEED)
    lab = Lab(size)
    held_out, learned = lab.prompts[: size.pairs], lab.prompts[size.pairs : size.pairs + size.trained]
    print(f"World version {WORLD_VERSION}, model {model_digest(MODEL)[:16]}, {size.pairs} pairs, t {size.levels}\n")
    pairs, training = lab.draw(held_out), lab.draw(learned)
    policy = lab.train(training, RANDOM)
    guided = lab.draw(held_out, GUIDANCE)
    few = {"stand_ins": FEW, "draws": 1}
    cases: dict[str, Callable[[], Found]] = {
        "as drawn": lambda: measure(lab, policy, pairs, pairs, STAND_INS, size.draws),
        "known as pictures": lambda: measure(lab, policy, pairs, lab.seen_as_pictures(pairs), **few),
        f"drawn with guidance {GUIDANCE:g}": lambda: measure(lab, policy, guided, guided, **few),
        "policy trained on ReNoise": lambda: measure(lab, lab.train(training, RENOISE_5), pairs, pairs, **few),
    }
    told: dict[str, Any] = {"world": WORLD_VERSION, "model": model_digest(MODEL), "pairs": size.pairs}
    for case, run in cases.items():
        found = run()
        figures, truth = figures_of(found, how), truth_of(found, how)
        print(f"### {case}\n\nAt the true x_t: {', '.join(f'{name} {value:.3f}' for name, value in truth.items())}\n")
        table(figures, list(STATISTICS))
        print(flush=True)
        if case == "as drawn":
            table_by_level(figures, size.levels, list(STATISTICS))
            print(flush=True)
            if arguments.picture:
                draw_picture(arguments.picture, figures, size.levels)
        told |= {f"{case}: truth: {name}": value for name, value in truth.items()}
        for name, row in figures.items():
            for kind, one in row.items():
                ends = {"": one.value, " low": one.low, " high": one.high}
                told |= {f"{case}: {name}: {kind}{end}": value for end, value in ends.items()}
    if arguments.json:
        print(json.dumps(told, sort_keys=True))


if __name__ == "__main__":
    main()
