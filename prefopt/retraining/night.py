"""One night: pick up what is new, train a challenger, compare it with the champion, and write down what follows."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import yaml

from prefopt.config import RunConfig, dump_config, parse_config
from prefopt.config.retrain import ChampionConfig
from prefopt.data.manifest import is_complete, read_manifest
from prefopt.data.pair_lists import read_pairs, write_pairs
from prefopt.data.storage import Storage
from prefopt.drift.records import read_drift
from prefopt.errors import InputError
from prefopt.gate import DECISION, Decision, read_decision
from prefopt.gate.page import sentence
from prefopt.hooks import Event, run_hooks
from prefopt.registry import (
    Action,
    Record,
    Registry,
    RetrainingLock,
    Watermark,
    champion_of,
    check_champion,
    check_clock,
    current,
    retraining_lock,
)
from prefopt.retraining.aside import read_aside, set_aside
from prefopt.retraining.plan import champion_config, is_full, new_pairs, night_config, watermark
from prefopt.retraining.trail import read_trail
from prefopt.stages.base import StageOutput
from prefopt.stages.chain import Chain, StageOutcome
from prefopt.stages.champion import champion_ingest
from prefopt.stages.keys import NIGHT, STAGES

CONFIG, FRESH, ASIDE = "night.yaml", "fresh.txt", "aside.txt"
AUTOMATIC = "prefopt retrain"
JUDGED: frozenset[Action] = frozenset({"promote", "propose", "reject", "hold"})
EVENTS: Mapping[Action, Event] = {
    "promote": "promoted",
    "propose": "proposed",
    "reject": "rejected",
    "hold": "held",
    "nothing": "nothing",
}


class Watcher(Protocol):
    """Whom a night tells how it goes."""

    def begin(self, stage: str) -> None: ...

    def progress(self, done: int, total: int, what: str, how: str = "") -> None: ...

    def end(self, outcome: StageOutcome) -> None: ...


@dataclass(frozen=True)
class NightOutcome:
    """What became of a night."""

    action: Action
    reason: str
    run: str
    """The night's directory."""
    seen: Watermark
    """The data that it read."""
    suspicious: bool = False
    """Whether its new pairs are set aside: the drift check spoke against them, and nothing shows that they are good."""
    decision: Decision | None = None
    place: str | None = None
    """The decision's."""
    record: Record | None = None
    """None where there was nothing to do, and the record before says so already."""

    @property
    def told(self) -> dict[str, Any]:
        """In plain values: for hooks and for --json."""
        return {
            "action": self.action,
            "reason": self.reason,
            "run": self.run,
            "record": self.record.number if self.record else None,
            "decision": self.place,
            "set_aside": self.suspicious,
        }


@dataclass(frozen=True)
class Plan:
    """A night whose data are known."""

    config: RunConfig
    run_dir: str

    @property
    def told(self) -> dict[str, Any]:
        """In plain values, for --json."""
        return {"action": "train", "run": self.run_dir, "config": f"{self.run_dir}/{CONFIG}"}


class Night:
    """The next night of a history of champions. Whatever is interrupted goes on from there: a night is its number, and
    nothing counts before its record is written."""

    def __init__(
        self,
        config: RunConfig,
        place: str,
        *,
        start_engine: Callable[[], object],
        watcher: Watcher,
        by: str = AUTOMATIC,
    ) -> None:
        """`place` holds the directories of all nights, and the registry unless `retrain.registry` names it."""
        self._config, self._place, self._by = config, place, by
        self._registry = Registry(registry_place(config, place))
        self._start_engine, self._watcher = start_engine, watcher

    def run(self, *, full: bool = False) -> NightOutcome:
        """Do what is to do. `full` trains from the base whether that is due or not.

        Raises LockedError if another night is at work, InputError if the registry is damaged, a clock is wrong or the
        champion's files are gone or differ from what was promoted, ConflictError if another decision was written
        meanwhile, and whatever a stage raises.
        """
        with self._guarded() as (lock, history):
            planned = self._planned(history, full=full)
            made = self._judged(planned) if isinstance(planned, Plan) else planned
            lock.check()
            return self._written(history, made)

    def plan(self, *, full: bool = False) -> Plan | NightOutcome:
        """Read what is new and write the night's config, for those who run its stages one by one. The outcome where
        there is nothing to do. Raises as `run`."""
        with self._guarded() as (lock, history):
            planned = self._planned(history, full=full)
            if isinstance(planned, Plan):
                return planned
            lock.check()
            return self._written(history, planned)

    def decide(self) -> NightOutcome:
        """Write down what follows from the planned night, all stages of which are done, or those up to a drift check
        that holds it back. Raises as `run`, and InputError if a stage is missing."""
        with self._guarded() as (lock, history):
            run_dir = self._run_dir(history)
            made = self._judged(Plan(read_night(run_dir), run_dir), start=False)
            lock.check()
            return self._written(history, made)

    @contextmanager
    def _guarded(self) -> Iterator[tuple[RetrainingLock, list[Record]]]:
        """The registry's lock and history; hooks are told of an error."""
        with retraining_lock(self._registry.uri, owner=self._by) as lock:
            try:
                history = self._registry.history()
                check_clock(history, datetime.now(UTC))
                yield lock, history
            except Exception as error:
                self._tell("failed", {"error": f"{type(error).__name__}: {error}"})
                raise

    def _run_dir(self, history: list[Record]) -> str:
        return f"{self._place}/nights/{len(history) + 1:04d}"

    def _planned(self, history: list[Record], *, full: bool) -> Plan | NightOutcome:
        champion, trail, run_dir = _champion(history), read_trail(history), self._run_dir(history)
        ingest = self._chain(self._config, run_dir).run("ingest")
        aside = read_aside(self._registry, history, self._config.retrain.released)
        known = champion_ingest(champion) if champion else None
        fresh, wanted = new_pairs(ingest, self._last_seen(history) or known, aside), self._config.retrain.min_pairs
        if len(fresh) < wanted:
            reason = f"{len(fresh)} new pairs of the training split, and retrain.min_pairs is {wanted}: nothing to do."
            return NightOutcome("nothing", reason, run_dir, watermark(ingest))
        config = night_config(
            self._config,
            history,
            trail,
            champion,
            len(new_pairs(ingest, known, aside)),
            full=full or is_full(self._config, champion, trail),
            fresh=write_pairs(run_dir, FRESH, fresh),
            aside=write_pairs(run_dir, ASIDE, aside),
        )
        Storage(run_dir).write_bytes(CONFIG, dump_config(config).encode())
        return Plan(config, run_dir)

    def _judged(self, plan: Plan, *, start: bool = True) -> NightOutcome:
        """All stages of a planned night, and what follows from them. Without `start` they must be done."""
        chain = self._chain(plan.config, plan.run_dir)
        stage = chain.run if start else chain.finished
        seen = watermark(stage("ingest"))
        for name in ("inject", "score"):
            stage(name)
        advice = read_drift(stage("drift").storage)
        if advice.action == "hold":
            return NightOutcome("hold", " ".join(advice.sentences), plan.run_dir, seen, suspicious=True)
        for name in ("train", "evaluate"):
            stage(name)
        gate = stage("gate").storage
        decision = read_decision(gate)
        place = gate.place(DECISION)
        action = self._action(decision)
        suspicious = action == "reject" and bool(advice.warnings)
        return NightOutcome(action, sentence(decision), plan.run_dir, seen, suspicious, decision, place)

    def _chain(self, config: RunConfig, run_dir: str) -> "_Stages":
        specs = NIGHT if config.night else {"ingest": STAGES["ingest"]}
        progress = self._watcher.progress
        return _Stages(
            Chain(config, run_dir, start_engine=self._start_engine, progress=progress, stages=specs), self._watcher
        )

    def _last_seen(self, history: list[Record]) -> StageOutput | None:
        """The data of the last night that came to a decision: what it has judged is not judged again every night."""
        for record in reversed(history):
            if record.action in JUDGED and record.seen:
                key = record.seen.ingest
                storage = Storage(f"{self._place}/nights/{record.number:04d}/ingest/{key[:12]}")
                return StageOutput(storage, read_manifest(storage)) if is_complete(storage, key) else None
        return None

    def _action(self, decision: Decision) -> Action:
        if decision.verdict != "better":
            return "reject"
        return "promote" if self._config.gate.mode == "auto" and not decision.needs_person else "propose"

    def _written(self, history: list[Record], made: NightOutcome) -> NightOutcome:
        """With its record, unless it would say again what the last one says."""
        last = history[-1] if history else None
        if last and (last.action, last.reason, last.seen) == (made.action, made.reason, made.seen):
            return made
        model, number = champion_of(made.run) if made.decision else None, len(history) + 1
        fresh = read_pairs(f"{made.run}/{FRESH}") if made.suspicious else None
        set_aside(self._registry, number, fresh)
        if fresh is not None:
            told = f"{made.reason} Its {len(fresh)} new pairs are set aside until retrain.released names {number}."
            made = replace(made, reason=told)
        record = self._registry.add(
            history, made.action, model, by=self._by, reason=made.reason, decision=made.place, seen=made.seen
        )
        outcome = replace(made, record=record)
        self._tell(EVENTS[outcome.action], outcome.told)
        return outcome

    def _tell(self, event: Event, details: Mapping[str, Any]) -> None:
        run_hooks(self._config.retrain.hooks, event, {"name": self._config.name, **details})


class _Stages:
    """Stages of a night, whose watcher is told of each."""

    def __init__(self, chain: Chain, watcher: Watcher) -> None:
        self._chain, self._watcher = chain, watcher

    def run(self, name: str) -> StageOutput:
        """Do it, or skip it if it is done."""
        self._watcher.begin(name)
        (outcome,) = self._chain.run([name])
        self._watcher.end(outcome)
        return outcome.output

    def finished(self, name: str) -> StageOutput:
        """It must be done. InputError if it is not."""
        return self._chain.finished(name, needed_by="the night's decision")


def read_night(run_dir: str) -> RunConfig:
    """The config of a planned night. InputError if none was planned in this directory."""
    storage = Storage(run_dir)
    if not storage.exists(CONFIG):
        raise InputError(
            f"{run_dir} holds no {CONFIG}: no night was planned since the registry's last record. Run prefopt retrain"
            " --only plan first."
        )
    return parse_config(yaml.safe_load(storage.read_bytes(CONFIG)), f"{run_dir}/{CONFIG}")


def registry_place(config: RunConfig, place: str) -> str:
    """Where the registry of nights at `place` lies."""
    return config.retrain.registry or f"{place}/registry"


def _champion(history: list[Record]) -> ChampionConfig | None:
    champion = current(history)
    if champion is None:
        return None
    check_champion(champion)
    return champion_config(champion)
