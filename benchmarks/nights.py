"""Ten days of new preference data on the embedded world, a night of retraining after each: ordinary days, a day of bad
labels, one of another taste, one without data, one whose night crashes before every stage, one with two nights at
once, one with a request to delete. Beside it, on request, a full retraining on every day.

    python benchmarks/nights.py --place runs/ten-days --against-full
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefopt.config import RunConfig, parse_config
from prefopt.config.evaluate import TUNED
from prefopt.config.ingest import Split
from prefopt.data.canonical import split_of
from prefopt.data.ids import row_rng
from prefopt.data.storage import Storage
from prefopt.distributed.quiet import quieten
from prefopt.registry import LockedError, Registry
from prefopt.retraining import Night, NightOutcome
from prefopt.stages.chain import StageOutcome
from prefopt.stages.keys import NIGHT
from prefopt.world.annotators import DEFAULT_SHARES
from prefopt.world.dataset import SCHEMA, write_dataset
from prefopt.world.scenes import all_prompts

SPLIT = Split(validation=0.05, test=0.4)
VISITS = 4.0
"""Of each new pair; the first day's training and every full one visit each pair as often."""
SHIFTED = {"majority": 0.4, "noir": 0.5, "ornate": 0.06, "careless": 0.04}


@dataclass(frozen=True)
class Day:
    """What arrives before a night, and what happens in it."""

    event: str
    pairs: int = 80
    flipped: float = 0.0
    shares: dict[str, float] | None = None
    crashes: bool = False
    twice: bool = False
    withdrawn: int = 0
    """Pairs that must be deleted."""


DAYS = (
    Day("the first data", pairs=200),
    Day("an ordinary day"),
    Day("crashes before every stage", crashes=True),
    Day("40 % of labels flipped", flipped=0.4),
    Day("no new data", pairs=0),
    Day("an ordinary day"),
    Day("two nights at once", twice=True),
    Day("another taste", shares=SHIFTED),
    Day("a request to delete", withdrawn=20),
    Day("an ordinary day"),
)
"""The first is the day before, and nine more."""


@dataclass
class Told:
    """What became of a day's night."""

    day: int
    event: str
    pairs: int
    action: str
    reason: str
    crashes: int = 0
    refused: str = ""
    rewards: int = 0
    """Rows that reward models scored."""
    latents: int = 0
    visits: int = 0
    win_rate: dict[str, float | None] = field(default_factory=dict)
    """Of tonight's challenger over the base, on the true preference."""
    champion: str = ""
    """The key of the champion's train stage after the night."""
    failed: list[str] = field(default_factory=list)


class Crash(Exception):
    """The machine goes away."""


class Watcher:
    """Says nothing, and does something before a stage begins."""

    def __init__(self, at: str | None, act: Callable[[], object]) -> None:
        self._at, self._act = at, act

    def begin(self, stage: str) -> None:
        if stage == self._at:
            self._act()

    def progress(self, done: int, total: int, what: str, how: str = "") -> None:
        """Nothing."""

    def end(self, outcome: StageOutcome) -> None:
        """Nothing."""


def write_day(place: Path, number: int, day: Day) -> None:
    """The day's file of votes, by the same people as every day's."""
    if not day.pairs or place.exists():
        return
    shares = day.shares or DEFAULT_SHARES
    write_dataset(place, pairs=day.pairs, seed=1000 + number, people_seed=0, day=number, shares=shares)
    if day.flipped:
        (file,) = place.glob("*.parquet")
        rows = pq.read_table(file).to_pylist()
        rng = row_rng(number, "flipped day")
        for row in rows:
            if rng.random() < day.flipped:
                row["label_0"], row["label_1"] = row["label_1"], row["label_0"]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)


def tree(place: Path, **branches: Any) -> dict[str, Any]:
    """The config of all nights."""
    prompts = sorted({prompt.text for prompt in all_prompts()})
    held_out = [prompt for prompt in prompts if split_of(prompt, SPLIT) == "test"]
    for name, chosen in {"fixed": held_out[::2], "audit": held_out[1::4]}.items():
        (place / f"{name}.txt").write_text("\n".join(chosen) + "\n")
    made: dict[str, Any] = {
        "name": "ten-days",
        "store": str(place / "store"),
        "model": {"path": "world"},
        "ingest": {
            "sources": [{"kind": "pickapic", "path": str(place / "data"), "group_column": "user_group"}],
            "split": SPLIT.model_dump(),
            "withdrawn": str(place / "withdrawn.txt"),
        },
        "score": {
            "resolution": 32,
            "alpha": {"reward": "world/taste"},
            "panel": {"rewards": ["world/composition", "world/style", "world/clutter"]},
        },
        "train": {
            "method": "full",
            "steps": 8,
            "global_batch": 32,
            "micro_batch": 16,
            "optimizer": {"lr": 1.2e-5, "warmup_steps": 1},
            "objective": {"name": "adaptive_dpo", "beta": 2000},
        },
        "evaluate": {
            "prompt_sets": [
                {"kind": "file", "name": "fixed", "path": str(place / "fixed.txt")},
                {"kind": "heldout", "name": "rotating", "most": 48, "rotates": True},
                {"kind": "file", "name": "audit", "path": str(place / "audit.txt")},
            ],
            "samples_per_prompt": 4,
            "sampler": {"steps": 20, "guidance": 3.0, "resolution": 32},
            "rewards": ["world/true", "world/fidelity"],
        },
        "gate": {
            "mode": "auto",
            "accuracy_tolerance": 0.1,
            "audit": {"reward": "world/fidelity", "prompt_set": "audit", "tolerance": 0.2},
        },
        "retrain": {"visits_per_pair": VISITS},
        "cluster": {"engine": "process"},
    }
    for name, branch in branches.items():
        made[name] = {**made.get(name, {}), **branch} if isinstance(branch, dict) else branch
    return made


def _crash() -> None:
    raise Crash


class Nights:
    """A place where nights are played, and what they cost."""

    def __init__(self, place: Path, config: RunConfig) -> None:
        self._place, self._config = place, config
        self.registry = Registry(f"{place}/registry")

    def night(self, at: str | None = None, act: Callable[[], object] = lambda: None) -> Night:
        """The next one, in which `act` happens before a stage."""
        return Night(self._config, str(self._place), start_engine=quieten, watcher=Watcher(at, act))

    def lengthen(self, pairs: int) -> None:
        """Let a training from the base visit each of so many pairs as often as a night visits new ones."""
        train = self._config.train
        training = pairs * (1.0 - self._config.ingest.split.validation - self._config.ingest.split.test)
        steps = math.ceil(training * VISITS / train.global_batch)
        self._config = self._config.model_copy(update={"train": train.model_copy(update={"steps": steps})})

    def play(self, number: int, day: Day, *, full: bool = False) -> Told:
        """One day's data and its night."""
        write_day(self._place / "data" / f"day-{number:02d}", number, day)
        if day.withdrawn:
            self._withdraw(day.withdrawn)
        before, crashes = self._stored(), 0
        refused: list[str] = []
        for stage in NIGHT if day.crashes else ():
            try:
                self.night(stage, _crash).run(full=full)
            except Crash:
                crashes += 1

        def meanwhile() -> None:
            try:
                self.night().run(full=full)
            except LockedError as error:
                refused.append(str(error))

        outcome = self.night("train" if day.twice else None, meanwhile).run(full=full)
        after = self._stored()
        champion = self.registry.champion()
        return Told(
            day=number,
            event=day.event,
            pairs=day.pairs,
            action=outcome.action,
            reason=outcome.reason,
            crashes=crashes,
            refused=" ".join(refused),
            rewards=after["rewards"] - before["rewards"],
            latents=after["x0"] - before["x0"],
            champion=champion.train if champion else "",
            **self._measured(outcome),
        )

    def _measured(self, outcome: NightOutcome) -> dict[str, Any]:
        if outcome.decision is None:
            return {}
        run = Storage(outcome.run)
        metrics = json.loads(run.read_bytes("metrics.json"))
        train = json.loads(run.read_bytes("run.json"))["train"]
        manifest = json.loads(run.read_bytes(f"train/{train[:12]}/manifest.json"))
        wins = metrics["models"][TUNED][self._config.evaluate.rewards[0]]["win_rate"]
        return {
            "visits": manifest["rows"]["in"],
            "win_rate": {name: wins[name] for name in ("value", "low", "high")},
            "failed": [f"{check.name} {check.of}" for check in outcome.decision.failed],
        }

    def _stored(self) -> dict[str, int]:
        """Rows of the stores, by kind."""
        store = Path(self._config.store)
        return {
            kind: sum(pq.read_metadata(file).num_rows for file in (store / kind).rglob("*.parquet"))
            for kind in ("rewards", "x0")
        }

    def _withdraw(self, count: int) -> None:
        """Ask for the deletion of the first training pairs of the last night."""
        *_, run = sorted(path for path in (self._place / "nights").iterdir() if (path / "run.json").exists())
        folder = run / "ingest" / json.loads((run / "run.json").read_text())["ingest"][:12]
        pairs = [row for file in sorted(folder.glob("pairs-*.parquet")) for row in pq.read_table(file).to_pylist()]
        chosen = [row["pair_id"] for row in pairs if row["split"] == "train"][:count]
        (self._place / "withdrawn.txt").write_text("\n".join(chosen) + "\n")


def prepare(place: Path, **branches: Any) -> Nights:
    """An empty place with its config."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "data").mkdir(exist_ok=True)
    (place / "withdrawn.txt").touch()
    return Nights(place, parse_config(tree(place, **branches), "ten days"))


def as_row(told: Told) -> str:
    """A line of the table."""
    wins = (
        f"{told.win_rate['value']:.3f} ({told.win_rate['low']:.3f} to {told.win_rate['high']:.3f})"
        if told.win_rate
        else "-"
    )
    note = ", ".join(told.failed) or ("" if told.win_rate else told.reason)
    note = "the second one finds the lock held; " + note if told.refused else note
    cells = (told.day, told.event, told.pairs, told.rewards, told.latents, told.visits, wins, told.action, note)
    return "| " + " | ".join(map(str, cells)) + " |"


HEADER = """| day | what happens | pairs | rewards | latents | visits | challenger's win rate | night | note |
|---|---|---|---|---|---|---|---|---|"""


def play(nights: Nights, days: Sequence[Day], *, full: bool = False) -> list[Told]:
    """All days in order, each told as soon as it is over."""
    print(HEADER, flush=True)
    told = []
    for number, day in enumerate(days):
        if full:
            nights.lengthen(sum(before.pairs for before in days[: number + 1]))
        told.append(nights.play(number, day, full=full))
        print(as_row(told[-1]), flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", default="runs/ten-days")
    parser.add_argument("--against-full", action="store_true", help="also retrain from the base on all data every day")
    parser.add_argument("--quick", action="store_true", help="three days")
    parser.add_argument("--set", action="append", default=[], metavar="BRANCH=YAML", help="a branch of the config")
    parser.add_argument("--json", action="store_true", help="the last line is one flat object of figures")
    given = parser.parse_args()
    import yaml

    branches = {name: yaml.safe_load(text) for name, _, text in (item.partition("=") for item in given.set)}
    days, place = (DAYS[:3] if given.quick else DAYS), Path(given.place).absolute()

    told = {"incremental": play(prepare(place / "incremental", **branches), days)}
    if given.against_full:
        told["full"] = play(prepare(place / "full", **branches), days, full=True)
    figures = {
        f"{name} {what}": sum(getattr(day, what) for day in one[1:])
        for name, one in told.items()
        for what in ("rewards", "latents", "visits")
    }
    print("\nAfter the first day: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    (place / "told.json").write_text(json.dumps({name: list(map(asdict, one)) for name, one in told.items()}, indent=1))
    if given.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
