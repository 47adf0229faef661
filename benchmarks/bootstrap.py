"""How often 95 % intervals of win rates hold the truth, on synthetic data: the paired clustered bootstrap and its
rivals, and the two-way bootstrap of human votes. Writes nothing.

python benchmarks/bootstrap.py --json
"""

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from prefopt.config.evaluate import BootstrapConfig
from prefopt.data.ids import row_rng
from prefopt.evaluation.statistics import Resampling, mean_estimate
from prefopt.human.statistics import Votes, crossed_estimate

Floats = NDArray[np.float64]
Interval = tuple[float, float]
LEVEL, CORRELATION, TIES = 0.95, 0.3, 0.1
HIGH = (1.0 + LEVEL) / 2.0


@dataclass(frozen=True)
class Setting:
    """Win points of a tuned model: `samples` images for each of `prompts` prompts."""

    prompts: int
    samples: int
    rate: float
    ties: float

    @property
    def name(self) -> str:
        return f"{self.prompts} prompts x {self.samples}, rate {self.rate}, ties {self.ties}"

    def draw(self, rng: np.random.Generator) -> Floats:
        """[prompts, samples] points; a prompt's own rate is beta, so that its untied samples correlate by 0.3."""
        untied = (self.rate - self.ties / 2.0) / (1.0 - self.ties)
        scale = (1.0 - CORRELATION) / CORRELATION
        own = rng.beta(untied * scale, (1.0 - untied) * scale, size=(self.prompts, 1))
        shape = (self.prompts, self.samples)
        won = (rng.random(shape) < own).astype(np.float64)
        return np.where(rng.random(shape) < self.ties, 0.5, won)


@dataclass(frozen=True)
class Drawn:
    """One trial, and its bootstrap: clusters are of one size, so their means are a sample of independent values."""

    means: Floats
    resampled: Floats
    errors: Floats
    """The standard error of each resample's mean."""

    @classmethod
    def of(cls, points: Floats, resamples: int, rng: np.random.Generator) -> "Drawn":
        means = points.mean(axis=1)
        values, counts = np.unique(means, return_counts=True)
        drawn = rng.multinomial(len(means), counts / len(means), size=resamples)
        first, second = drawn @ values / len(means), drawn @ values**2 / len(means)
        variance = np.maximum(second - first**2, 0.0) / (len(means) - 1)
        return cls(means, first, np.sqrt(variance))

    @property
    def value(self) -> float:
        return float(self.means.mean())

    @property
    def error(self) -> float:
        return float(self.means.std(ddof=1) / np.sqrt(len(self.means)))

    @property
    def t(self) -> float:
        return float(special.stdtrit(len(self.means) - 1, HIGH))


def percentile(drawn: Drawn) -> Interval:
    """Quantiles of the resamples' means: what `mean_estimate` gives."""
    return _ends(drawn.resampled, 1.0 - HIGH, HIGH)


def expanded(drawn: Drawn) -> Interval:
    """Percentiles as far out as make the interval of a normal mean exact (Hesterberg, arXiv 1411.5279)."""
    clusters = len(drawn.means)
    tail = float(special.ndtr(-drawn.t * np.sqrt(clusters / (clusters - 1))))
    return _ends(drawn.resampled, tail, 1.0 - tail)


def basic(drawn: Drawn) -> Interval:
    """The percentile interval, turned around the estimate."""
    low, high = _ends(drawn.resampled, 1.0 - HIGH, HIGH)
    return 2.0 * drawn.value - high, 2.0 * drawn.value - low


def bca(drawn: Drawn) -> Interval:
    """Bias-corrected and accelerated percentiles (Efron, 1987)."""
    below = (np.mean(drawn.resampled < drawn.value) + np.mean(drawn.resampled <= drawn.value)) / 2.0
    apart = drawn.value - drawn.means
    spread = float((apart**2).sum()) ** 1.5
    if not spread or not 0.0 < below < 1.0:
        return drawn.value, drawn.value
    shift, speed = special.ndtri(below), -float((apart**3).sum()) / (6.0 * spread)
    far = shift + special.ndtri(np.array([1.0 - HIGH, HIGH]))
    low, high = special.ndtr(shift + far / (1.0 - speed * far))
    return _ends(drawn.resampled, low, high)


def studentised(drawn: Drawn) -> Interval:
    """Bootstrap-t: quantiles of each resample's distance in its own standard errors."""
    usable = drawn.errors > 0.0
    if not usable.any():
        return drawn.value, drawn.value
    low, high = _ends((drawn.resampled[usable] - drawn.value) / drawn.errors[usable], 1.0 - HIGH, HIGH)
    return drawn.value - high * drawn.error, drawn.value - low * drawn.error


def student(drawn: Drawn) -> Interval:
    """Student's t with the clusters' standard error."""
    return drawn.value - drawn.t * drawn.error, drawn.value + drawn.t * drawn.error


def wilson(drawn: Drawn) -> Interval:
    """Wilson's score interval at the number of independent votes that would give the clusters' standard error."""
    return _wilson(drawn, float(special.ndtri(HIGH)))


def wilson_t(drawn: Drawn) -> Interval:
    """The same with Student's quantile."""
    return _wilson(drawn, drawn.t)


def _wilson(drawn: Drawn, z: float) -> Interval:
    value, variance = drawn.value, drawn.error**2
    size = value * (1.0 - value) / variance if variance else float(len(drawn.means))
    middle = (value + z**2 / (2.0 * size)) / (1.0 + z**2 / size)
    half = z / (1.0 + z**2 / size) * np.sqrt(value * (1.0 - value) / size + z**2 / (4.0 * size**2))
    return float(middle - half), float(middle + half)


def _ends(values: Floats, low: float, high: float) -> Interval:
    ends = np.quantile(values, [low, high])
    return float(ends[0]), float(ends[1])


RIVALS: dict[str, Callable[[Drawn], Interval]] = {
    "percentile": percentile,
    "expanded": expanded,
    "basic": basic,
    "bca": bca,
    "studentised": studentised,
    "student": student,
    "wilson": wilson,
    "wilson_t": wilson_t,
}


def one_way(setting: Setting, trials: int, resamples: int, own: bool) -> dict[str, float]:
    """Coverage of each interval, and of `mean_estimate` itself where `own`."""
    rng, clusters = row_rng(0, "coverage", setting.name), np.repeat(np.arange(setting.prompts), setting.samples)
    hits = dict.fromkeys([*(["mean_estimate"] if own else []), *RIVALS], 0)
    for trial in range(trials):
        points = setting.draw(rng)
        drawn = Drawn.of(points, resamples, rng)
        found = {name: rival(drawn) for name, rival in RIVALS.items()}
        if own:
            how = Resampling(BootstrapConfig(resamples=resamples, level=LEVEL), seed=trial)
            estimate = mean_estimate(points.ravel(), clusters, how, setting.name)
            assert estimate.low is not None
            assert estimate.high is not None
            found["mean_estimate"] = estimate.low, estimate.high
        for name, ends in found.items():
            hits[name] += _holds(ends, setting.rate)
    return {name: count / trials for name, count in hits.items()}


@dataclass(frozen=True)
class Crossed:
    """Votes of annotators, `each` on every prompt's pair, that depend on the prompt and on the annotator."""

    prompts: int
    annotators: int
    each: int
    rate: float

    @property
    def name(self) -> str:
        return f"{self.prompts} prompts, {self.annotators} annotators, {self.each} votes a prompt, rate {self.rate}"

    def draw(self, rng: np.random.Generator) -> Votes:
        """Normal effects of prompt (deviation 1), annotator (1/2) and vote (1); a sum above 0 is a win."""
        prompts = np.repeat(np.arange(self.prompts), self.each)
        chosen = [rng.choice(self.annotators, self.each, replace=False) for _ in range(self.prompts)]
        annotators = np.concatenate(chosen)
        middle = special.ndtri(self.rate) * np.sqrt(1.0 + 0.25 + 1.0)
        effects = rng.standard_normal(self.prompts)[prompts] + 0.5 * rng.standard_normal(self.annotators)[annotators]
        won = middle + effects + rng.standard_normal(len(prompts)) > 0.0
        return Votes(won.astype(np.float64), prompts, annotators)


def two_way(setting: Crossed, trials: int, resamples: int) -> dict[str, float]:
    """Coverage of the two-way bootstrap, of Student's t, and of the bootstrap that knows of prompts alone."""
    rng, hits = row_rng(0, "coverage", setting.name), {"two_way": 0, "two_way_student": 0, "prompts_alone": 0}
    for trial in range(trials):
        how = Resampling(BootstrapConfig(resamples=resamples, level=LEVEL), seed=trial)
        votes = setting.draw(rng)
        estimates = {
            "two_way": crossed_estimate(votes, how, "coverage"),
            "prompts_alone": mean_estimate(votes.points, votes.prompts, how, "coverage"),
        }
        for name, estimate in estimates.items():
            assert estimate.low is not None
            assert estimate.high is not None
            hits[name] += _holds((estimate.low, estimate.high), setting.rate)
        hits["two_way_student"] += _holds(two_way_student(votes), setting.rate)
    return {name: count / trials for name, count in hits.items()}


def two_way_student(votes: Votes) -> Interval:
    """Student's t with the variance by prompts, plus by annotators, less by votes (Cameron, Gelbach, Miller, 2011)."""
    value, sizes = float(votes.points.mean()), []
    apart, variance = votes.points - value, 0.0
    for clusters in (votes.prompts, votes.annotators):
        sums = np.bincount(clusters, weights=apart)
        sizes.append(len(sums))
        variance += float((sums**2).sum()) * len(sums) / (len(sums) - 1)
    variance -= float((apart**2).sum())
    half = special.stdtrit(min(sizes) - 1, HIGH) * np.sqrt(max(variance, 0.0)) / len(apart)
    return value - float(half), value + float(half)


def _holds(ends: Interval, truth: float) -> bool:
    return ends[0] - 1e-12 <= truth <= ends[1] + 1e-12


def _show(name: str, covered: dict[str, float], trials: int) -> None:
    cells = [f"{how} {100 * rate:.1f} ({100 * _error(rate, trials):.1f})" for how, rate in covered.items()]
    print(f"{name}: {', '.join(cells)}", flush=True)


def _error(rate: float, trials: int) -> float:
    return float(np.sqrt(rate * (1.0 - rate) / trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--part", choices=("all", "one-way", "two-way"), default="all")
    parser.add_argument("--prompts", type=int, nargs="+", default=[50, 200, 500])
    parser.add_argument("--fast", action="store_true", help="leave out mean_estimate, whose resampling takes longer")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    print(f"coverage in % (its binomial standard error) of {100 * LEVEL:.0f} % intervals, {arguments.trials} trials")
    figures: dict[str, float] = {}
    if arguments.part != "two-way":
        for numbers in itertools.product(arguments.prompts, (1, 4), (0.5, 0.7, 0.9), (0.0, TIES)):
            setting = Setting(*numbers)
            covered = one_way(setting, arguments.trials, arguments.resamples, not arguments.fast)
            _show(setting.name, covered, arguments.trials)
            figures |= {f"{setting.name}: {how}": rate for how, rate in covered.items()}
    if arguments.part != "one-way":
        for shape in itertools.product(arguments.prompts, (5, 10, 30), (3,), (0.5, 0.7, 0.9)):
            crossed = Crossed(*shape)
            covered = two_way(crossed, arguments.trials, arguments.resamples)
            _show(crossed.name, covered, arguments.trials)
            figures |= {f"{crossed.name}: {how}": rate for how, rate in covered.items()}
    if arguments.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
