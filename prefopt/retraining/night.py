"""One night: pick up what is new, train a challenger, compare it with the champion, and write down what follows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from prefopt.config import RunConfig, dump_config
from prefopt.config.retrain import ChampionConfig
from prefopt.data.storage import Storage
from prefopt.gate import DECISION, Decision, read_decision
from prefopt.gate.page import sentence
from prefopt.registry import Action, Champion, Record, Registry, champion_of, check_champion, current
from prefopt.retraining.plan import champion_config, is_full, new_pairs, night_config
from prefopt.retraining.trail import read_trail
from prefopt.stages.base import StageOutput
from prefopt.stages.chain import Chain, StageOutcome
from prefopt.stages.keys import NIGHT, STAGES

CONFIG = "night.yaml"
AUTOMATIC = "prefopt retrain"


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
    record: Record | None
    """None where there was nothing to do, and the record before says so already."""
    decision: Decision | None = None


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
        self._config, self._by = config, by
        self._registry = Registry(config.retrain.registry or f"{place}/registry")
        self._start_engine, self._watcher = start_engine, watcher
        self._history = self._registry.history()
        self.run_dir = f"{place}/nights/{len(self._history) + 1:04d}"

    def run(self, *, full: bool = False) -> NightOutcome:
        """Do what is to do. `full` trains from the base whether that is due or not.

        Raises InputError if the champion's files are gone or differ from what was promoted, ConflictError if another
        decision was written meanwhile, and whatever a stage raises.
        """
        champion = self._champion()
        trail = read_trail(self._history)
        full = full or is_full(self._config, champion, trail)
        ingest = self._stages(self._config, ["ingest"])["ingest"]
        new = new_pairs(ingest, champion)
        if new < self._config.retrain.min_pairs:
            return self._nothing(ingest, new)
        config = night_config(self._config, self._history, trail, champion, new, full=full)
        Storage(self.run_dir).write_bytes(CONFIG, dump_config(config).encode())
        done = self._stages(config, ["ingest", "inject", "score", "drift"])
        if done["drift"].manifest.summary.get("action") == "hold":
            told = str(done["drift"].manifest.summary.get("reason", ""))
            return self._add("hold", None, f"The drift check holds the night back. {told}".strip(), ingest)
        done = self._stages(config, ["train", "evaluate", "gate"])
        return self._decide(ingest, done["gate"])

    def _champion(self) -> ChampionConfig | None:
        champion = current(self._history)
        if champion is None:
            return None
        check_champion(champion)
        return champion_config(champion)

    def _stages(self, config: RunConfig, names: list[str]) -> dict[str, StageOutput]:
        specs = NIGHT if config.night else {"ingest": STAGES["ingest"]}
        chain = Chain(
            config, self.run_dir, start_engine=self._start_engine, progress=self._watcher.progress, stages=specs
        )
        done = {}
        for name in names:
            self._watcher.begin(name)
            (outcome,) = chain.run([name])
            self._watcher.end(outcome)
            done[name] = outcome.output
        return done

    def _nothing(self, ingest: StageOutput, new: int) -> NightOutcome:
        wanted = self._config.retrain.min_pairs
        reason = f"{new} new pairs of the training split, and retrain.min_pairs is {wanted}: nothing to do."
        last = self._history[-1] if self._history else None
        if last and last.action == "nothing" and last.reason == reason:
            return NightOutcome("nothing", reason, self.run_dir, None)
        return self._add("nothing", None, reason, ingest)

    def _decide(self, ingest: StageOutput, gate: StageOutput) -> NightOutcome:
        decision = read_decision(gate.storage)
        challenger = champion_of(self.run_dir)
        action: Literal["promote", "propose", "reject"] = "reject"
        if decision.verdict == "better":
            automatic = self._config.gate.mode == "auto" and not decision.needs_person
            action = "promote" if automatic else "propose"
        place = f"{gate.storage.uri}/{DECISION}"
        return self._add(action, challenger, sentence(decision), ingest, place, decision)

    def _add(
        self,
        action: Action,
        model: Champion | None,
        reason: str,
        ingest: StageOutput,
        place: str | None = None,
        decision: Decision | None = None,
    ) -> NightOutcome:
        record = self._registry.add(self._history, action, model, by=self._by, reason=reason, decision=place)
        return NightOutcome(action, reason, self.run_dir, record, decision)
