"""How often the drift check speaks without a reason, and how often it speaks with one, on synthetic preference data
whose prompts, pairs, annotators and nights are clustered as real ones are. Writes nothing.

python benchmarks/drift.py --json
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prefopt.config.drift import DriftConfig
from prefopt.data.ids import row_rng
from prefopt.drift.chance import Chance, Finding, Measured
from prefopt.drift.check import judged
from prefopt.drift.means import Labels, agreement_drift, minority_drift
from prefopt.drift.people import Voters, annotator_drift
from prefopt.drift.pictures import Pictures, image_drift, one_of_each_prompt
from prefopt.drift.records import Counts, SignalName
from prefopt.drift.words import prompt_drift

SIGNALS: tuple[SignalName, ...] = ("prompts", "images", "annotators", "agreement", "minority")
VOCABULARY, TOPICS, DIMENSIONS, GROUPS = 2000, 4, 32, 3
FEW, NEAR = 199, 0.03
"""Permutations of a first look; p below which all of the default's are made, without which nothing can speak."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """How one side's data come about."""

    pairs: int
    per_prompt: float = 1.0
    """Mean number of pairs of a prompt."""
    pool: int | None = None
    """So many prompts come again and again; None: each is new."""
    annotators: int = 60
    votes: int = 1
    """Of each pair."""
    topics: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    """Shares of topics, which have words of their own."""
    shift: float = 0.0
    """Of images, in units of the deviation of each number of a latent."""
    groups: tuple[float, ...] = (0.4, 0.4, 0.2)
    """How much of the votes each annotator group gives."""
    flipped: float = 0.0
    """Share of labels that say the opposite."""


@dataclass(frozen=True)
class World:
    """What both sides share."""

    words: Floats
    """[TOPICS, VOCABULARY] cumulative."""
    annotators: Floats
    """[n] how busy each is: a few give most votes."""

    @classmethod
    def made(cls, rng: np.random.Generator, annotators: int) -> "World":
        """Words by Zipf's law, a third of them of one topic alone."""
        zipf = 1.0 / np.arange(3, VOCABULARY + 3)
        topic = np.where(rng.random(VOCABULARY) < 1 / 3, rng.integers(TOPICS, size=VOCABULARY), -1)
        words = np.stack([zipf * ((topic == -1) | (topic == one)) for one in range(TOPICS)])
        return cls(np.cumsum(words / words.sum(axis=1, keepdims=True), axis=1), rng.lognormal(0.0, 1.0, annotators))


@dataclass(frozen=True)
class Drawn:
    """n pairs of one side."""

    prompts: list[str]
    vectors: Floats
    agrees: Floats
    u: Floats
    annotators: list[str]
    groups: list[str]
    """Of m votes."""


def draw(world: World, side: Side, rng: np.random.Generator) -> Drawn:
    """One side: prompts lend their pairs a topic, a place of the images, a share that agrees and a mean of u."""
    sizes = rng.geometric(1.0 / side.per_prompt, size=side.pairs)
    number = int(np.searchsorted(np.cumsum(sizes), side.pairs)) + 1
    owner = np.repeat(np.arange(number), sizes[:number])[: side.pairs]
    fresh = rng.integers(2**62, size=number)
    seeds = fresh if side.pool is None else rng.integers(side.pool, size=number)
    made = [_prompt(world, side, int(seed)) for seed in seeds]
    places = np.stack([place for _, place, _ in made])[owner]
    vectors = places[:, None] + rng.standard_normal((side.pairs, 2, DIMENSIONS)) + side.shift
    sure = np.array([one for *_, one in made])[owner]
    agrees = (rng.random(side.pairs) < sure) != (rng.random(side.pairs) < side.flipped)
    u = np.where(agrees, 0.1, 0.5) + 0.4 * rng.random(side.pairs)
    who, groups = _votes(world, side, rng)
    return Drawn([made[row][0] for row in owner], vectors, agrees.astype(np.float64), u, who, groups)


def _prompt(world: World, side: Side, seed: int) -> tuple[str, Floats, float]:
    """The text, the place of its images, and how likely a label agrees: all of them the prompt's own."""
    rng = row_rng(0, "benchmark prompt", seed)
    topic = int(np.searchsorted(np.cumsum(side.topics)[:-1], rng.random(), side="right"))
    text = " ".join(f"w{word}" for word in np.searchsorted(world.words[topic], rng.random(rng.integers(4, 16))))
    return text, rng.standard_normal(DIMENSIONS), float(rng.beta(6.0, 2.0))


def _votes(world: World, side: Side, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Who votes, and of which group: one night an annotator is busier than another."""
    busy = world.annotators * rng.gamma(0.7, 1.0 / 0.7, size=len(world.annotators))
    member = np.arange(len(busy)) % GROUPS
    within = np.array([world.annotators[member == group].sum() for group in range(GROUPS)])
    weight = busy / within[member] * np.array(side.groups)[member]
    chosen = rng.choice(len(busy), size=side.pairs * side.votes, p=weight / weight.sum())
    return [f"a{one}" for one in chosen], [f"g{member[one]}" for one in chosen]


def findings(known: Drawn, new: Drawn, chance: Chance) -> dict[SignalName, Finding]:
    """All five signals, as the stage takes them."""
    late = np.repeat([False, True], [len(known.prompts), len(new.prompts)])
    prompts, pairs = known.prompts + new.prompts, [f"p{row}" for row in range(len(late))]
    kept = one_of_each_prompt(prompts, late)
    vectors = np.concatenate([known.vectors, new.vectors])[kept]
    pictures = Pictures([prompts[row] for row in kept], [pairs[row] for row in kept], late[kept], vectors)
    voted = np.repeat([False, True], [len(known.annotators), len(new.annotators)])
    voters = Voters(known.annotators + new.annotators, known.groups + new.groups, voted, unseen=0.0)
    agrees, u = (Labels(prompts, pairs, late, np.concatenate(both)) for both in _both(known, new))
    return {
        "prompts": prompt_drift(known.prompts, new.prompts, chance),
        "images": image_drift(pictures, chance),
        "annotators": annotator_drift(voters, chance),
        "agreement": agreement_drift(agrees, chance),
        "minority": minority_drift(u, chance),
    }


def _both(known: Drawn, new: Drawn) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    return (known.agrees, new.agrees), (known.u, new.u)


@dataclass(frozen=True)
class Rates:
    """Shares of trials, by signal; NaN where a signal was never measured."""

    below_5: dict[str, float]
    """p below 0.05, before correction."""
    below_1: dict[str, float]
    spoke: dict[str, float]
    """A warning or a hold, at the default bounds; the key `any` holds any of them."""
    values: dict[str, float]
    """Means."""
    raw: dict[str, float]
    """Means of distances as they are, chance included."""


def run_trials(name: str, known: Side, new: Side, trials: int) -> Rates:
    """Both sides, drawn and compared so many times."""
    config, rng = DriftConfig(), row_rng(0, "benchmark drift", name)
    rows: list[dict[str, tuple[float, float, float, bool]]] = []
    for trial in range(trials):
        world = World.made(rng, known.annotators)
        both = draw(world, known, rng), draw(world, new, rng)
        found = findings(*both, Chance(FEW, trial))
        if any(isinstance(one, Measured) and one.p < NEAR for one in found.values()):
            found = findings(*both, Chance(config.permutations, trial))
        counts = Counts(new=new.pairs, known=known.pairs, compared_new=new.pairs, compared_known=known.pairs)
        verdicts = {one.name: one.verdict for one in judged(config, found, counts, "0" * 64).signals}
        rows.append(
            {
                signal: (one.p, one.value, one.figures.get("distance", one.value), verdicts[signal] != "ok")
                for signal, one in found.items()
                if isinstance(one, Measured)
            }
        )
    columns = {signal: np.array([row[signal] for row in rows if signal in row]).T for signal in SIGNALS}
    measured = {signal: column for signal, column in columns.items() if column.size}
    spoke = {signal: float(column[3].mean()) for signal, column in measured.items()}
    spoke["any"] = float(np.mean([any(cells[3] for cells in row.values()) for row in rows]))
    low = [f"{signal} {float((column[0] < 0.05).mean()):.3f}" for signal, column in measured.items()]
    print(f"{name}: p below 0.05: {', '.join(low)}", file=sys.stderr, flush=True)
    return Rates(
        {signal: float((column[0] < 0.05).mean()) for signal, column in measured.items()},
        {signal: float((column[0] < 0.01).mean()) for signal, column in measured.items()},
        spoke,
        {signal: float(column[1].mean()) for signal, column in measured.items()},
        {signal: float(column[2].mean()) for signal, column in measured.items()},
    )


ALIKE = {
    "60 new, 300 known": (Side(300), Side(60)),
    "200 new, 1000 known": (Side(1000), Side(200)),
    "several pairs a prompt": (Side(600, per_prompt=4.0), Side(200, per_prompt=4.0)),
    "known thinned out": (Side(600), Side(200, per_prompt=4.0)),
    "new thinned out": (Side(600, per_prompt=4.0), Side(200)),
    "120 prompts come again": (Side(600, pool=120), Side(120, pool=120)),
    "12 annotators": (Side(300, annotators=12), Side(100, annotators=12)),
    "600 annotators, 3 votes a pair": (Side(300, annotators=600, votes=3), Side(100, annotators=600, votes=3)),
}
PLAIN = (Side(600), Side(150))
CHANGED = {
    "prompts": {
        f"topic 1 has {share:.0%}": {"topics": _topics}
        for share, _topics in (
            (0.5, (0.5, 1 / 6, 1 / 6, 1 / 6)),
            (0.75, (0.75, 1 / 12, 1 / 12, 1 / 12)),
            (1.0, (1.0, 0.0, 0.0, 0.0)),
        )
    },
    "images": {f"shift {shift:g}": {"shift": shift} for shift in (0.25, 0.5, 0.75, 1.0)},
    "annotators": {
        f"group 3 gives {groups[2]:.0%}": {"groups": groups}
        for groups in ((0.3, 0.3, 0.4), (0.2, 0.2, 0.6), (0.05, 0.05, 0.9))
    },
    "agreement": {f"{flipped:.0%} flipped": {"flipped": flipped} for flipped in (0.1, 0.2, 0.4)},
}


def _table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name, row in rows.items():
        cells = [f"{row[column]:.3f}" if column in row else "" for column in columns]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def timed(pairs: int) -> dict[str, float]:
    """Seconds of each signal with so many pairs on each side."""
    rng, chance = row_rng(0, "benchmark drift", "timed"), Chance()
    world = World.made(rng, 300)
    known, new = (draw(world, Side(pairs, annotators=300), rng) for _ in range(2))
    late, names = np.repeat([False, True], pairs), [f"p{row}" for row in range(2 * pairs)]
    prompts, vectors = known.prompts + new.prompts, rng.standard_normal((2 * pairs, 2, 256)).astype(np.float32)
    voters = Voters(known.annotators + new.annotators, known.groups + new.groups, late, 0.0)
    labels = Labels(prompts, names, late, np.concatenate([known.agrees, new.agrees]))
    work = {
        "prompts": lambda: prompt_drift(known.prompts, new.prompts, chance),
        "images": lambda: image_drift(Pictures(prompts, names, late, vectors), chance),
        "annotators": lambda: annotator_drift(voters, chance),
        "agreement": lambda: agreement_drift(labels, chance),
    }
    found = {}
    for signal, run in work.items():
        started = time.perf_counter()
        run()
        found[signal] = time.perf_counter() - started
    return found


def _nothing_changed(trials: int) -> dict[str, float]:
    found = {name: run_trials(name, *both, trials) for name, both in ALIKE.items()}
    _table(f"Nothing changed: p below 0.05 ({trials} trials)", {name: one.below_5 for name, one in found.items()})
    _table("Nothing changed: p below 0.01", {name: one.below_1 for name, one in found.items()})
    _table("Nothing changed: a warning", {name: one.spoke for name, one in found.items()})
    _table("Nothing changed: mean distance, chance included", {name: one.raw for name, one in found.items()})
    _table("Nothing changed: mean value", {name: one.values for name, one in found.items()})
    figures: dict[str, float] = {}
    for name, one in found.items():
        figures |= {f"alike, {name}: {signal} below 0.05": value for signal, value in one.below_5.items()}
        figures |= {f"alike, {name}: {signal} speaks": value for signal, value in one.spoke.items()}
    return figures


def _changed(trials: int) -> dict[str, float]:
    changes = {name: change for of_signal in CHANGED.values() for name, change in of_signal.items()}
    found = {name: run_trials(name, PLAIN[0], replace(PLAIN[1], **change), trials) for name, change in changes.items()}
    _table(f"Changed: p below 0.01 ({trials} trials)", {name: one.below_1 for name, one in found.items()})
    _table("Changed: a warning", {name: one.spoke for name, one in found.items()})
    _table("Changed: mean value", {name: one.values for name, one in found.items()})
    figures: dict[str, float] = {}
    for name, one in found.items():
        figures |= {f"changed, {name}: {signal} speaks": value for signal, value in one.spoke.items()}
        figures |= {f"changed, {name}: {signal}": value for signal, value in one.values.items()}
    return figures


def _more_data(trials: int) -> dict[str, float]:
    changed = Side(1, topics=(0.75, 1 / 12, 1 / 12, 1 / 12), shift=0.5)
    sizes = {f"{new} new, {4 * new} known": (Side(4 * new), replace(changed, pairs=new)) for new in (40, 150, 500)}
    found = {name: run_trials(name, *both, trials) for name, both in sizes.items()}
    _table("One change, more data: mean distance, chance included", {name: one.raw for name, one in found.items()})
    _table("One change, more data: mean value", {name: one.values for name, one in found.items()})
    return {f"{name}: {signal}": value for name, one in found.items() for signal, value in one.values.items()}


def _seconds(pairs: int) -> dict[str, float]:
    found = timed(pairs)
    _table("Seconds", {f"{pairs} and {pairs} pairs": found})
    return {f"seconds {signal}": value for signal, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="without a change; a quarter as many with one")
    parser.add_argument("--quick", action="store_true", help="20 trials")
    parser.add_argument("--part", choices=("all", "alike", "changed", "sizes", "seconds"), default="all")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    trials = 20 if arguments.quick else arguments.trials
    parts = {
        "alike": lambda: _nothing_changed(trials),
        "changed": lambda: _changed(trials // 4),
        "sizes": lambda: _more_data(trials // 10),
        "seconds": lambda: _seconds(500 if arguments.quick else 2000),
    }
    figures: dict[str, float] = {}
    for name, run in parts.items():
        if arguments.part in ("all", name):
            figures |= run()
    if arguments.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
