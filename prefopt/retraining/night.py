"""One night: pick up what is new, train a challenger, compare it with the champion, and write down what follows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from prefopt.config import RunConfig, dump_config
from prefopt.config.retrain import ChampionConfig
from prefopt.data.manifest import is_complete, read_manifest
from prefopt.data.storage import Storage
from prefopt.drift.records import read_drift
from prefopt.gate import DECISION, Decision, read_decision
from prefopt.gate.page import sentence
from prefopt.hooks import Event, run_hooks
from prefopt.registry import (
    Action,
    Record,
    Registry,
    Watermark,
    champion_of,
    check_champion,
    check_clock,
    current,
    retraining_lock,
)
from prefopt.retraining.plan import champion_config, is_full, new_pairs, night_config, watermark
from prefopt.retraining.trail import read_trail
from prefopt.stages.base import StageOutput
from prefopt.stages.chain import Chain, StageOutcome
from prefopt.stages.champion import champion_ingest
from prefopt.stages.keys import NIGHT, STAGES

CONFIG = "night.yaml"
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
        }


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
        with retraining_lock(self._registry.uri, owner=self._by) as lock:
            try:
                history = self._registry.history()
                check_clock(history, datetime.now(UTC))
                run_dir = f"{self._place}/nights/{len(history) + 1:04d}"
                made = self._make(history, run_dir, full=full)
                lock.check()
                outcome = self._written(history, made)
            except Exception as error:
                self._tell("failed", {"error": f"{type(error).__name__}: {error}"})
                raise
        if outcome.record is not None:
            self._tell(EVENTS[outcome.action], outcome.told)
        return outcome

    def _tell(self, event: Event, details: Mapping[str, Any]) -> None:
        run_hooks(self._config.retrain.hooks, event, {"name": self._config.name, **details})

    def _make(self, history: list[Record], run_dir: str, *, full: bool) -> NightOutcome:
        """All of a night but its record."""
        champion = _champion(history)
        trail = read_trail(history)
        full = full or is_full(self._config, champion, trail)
        ingest = self._stages(self._config, run_dir, ["ingest"])["ingest"]
        seen, known = watermark(ingest), champion_ingest(champion) if champion else None
        arrived, wanted = new_pairs(ingest, self._last_seen(history) or known), self._config.retrain.min_pairs
        if arrived < wanted:
            reason = f"{arrived} new pairs of the training split, and retrain.min_pairs is {wanted}: nothing to do."
            return NightOutcome("nothing", reason, run_dir, seen)
        new = new_pairs(ingest, known)
        config = night_config(self._config, history, trail, champion, new, full=full)
        Storage(run_dir).write_bytes(CONFIG, dump_config(config).encode())
        drift = self._stages(config, run_dir, ["ingest", "inject", "score", "drift"])["drift"]
        advice = read_drift(drift.storage)
        if advice.action == "hold":
            return NightOutcome("hold", " ".join(advice.sentences), run_dir, seen)
        gate = self._stages(config, run_dir, ["train", "evaluate", "gate"])["gate"]
        decision = read_decision(gate.storage)
        place = gate.storage.path(DECISION) if gate.storage.local else f"{gate.storage.uri}/{DECISION}"
        return NightOutcome(self._action(decision), sentence(decision), run_dir, seen, decision, place)

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

    def _stages(self, config: RunConfig, run_dir: str, names: list[str]) -> dict[str, StageOutput]:
        specs = NIGHT if config.night else {"ingest": STAGES["ingest"]}
        chain = Chain(config, run_dir, start_engine=self._start_engine, progress=self._watcher.progress, stages=specs)
        done = {}
        for name in names:
            self._watcher.begin(name)
            (outcome,) = chain.run([name])
            self._watcher.end(outcome)
            done[name] = outcome.output
        return done

    def _written(self, history: list[Record], made: NightOutcome) -> NightOutcome:
        """With its record, unless it would say again what the last one says."""
        last = history[-1] if history else None
        if last and (last.action, last.reason, last.seen) == (made.action, made.reason, made.seen):
            return made
        model = champion_of(made.run) if made.decision else None
        record = self._registry.add(
            history, made.action, model, by=self._by, reason=made.reason, decision=made.place, seen=made.seen
        )
        return replace(made, record=record)


def registry_place(config: RunConfig, place: str) -> str:
    """Where the registry of nights at `place` lies."""
    return config.retrain.registry or f"{place}/registry"


def _champion(history: list[Record]) -> ChampionConfig | None:
    champion = current(history)
    if champion is None:
        return None
    check_champion(champion)
    return champion_config(champion)
