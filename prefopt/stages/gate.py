"""gate: champion against challenger, on the same prompts and held-out pairs; decision.json and decision.html."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.evaluate import BASE, CHAMPION, TUNED
from prefopt.config.retrain import NightConfig
from prefopt.data.manifest import Rows
from prefopt.data.tables import read_tables
from prefopt.drift.records import read_drift
from prefopt.evaluation.accuracy import HeldoutPair
from prefopt.evaluation.groups import GroupVote
from prefopt.evaluation.significance import decided
from prefopt.evaluation.statistics import Floats, Resampling
from prefopt.gate.checks import Check, accuracy_check, agreement, slice_check, spread_checks, win_rate_check
from prefopt.gate.decision import DECISION, Audit, Decision, audit_of, encoded, verdict_of
from prefopt.gate.page import render_html
from prefopt.stages.base import StageContext, StageOutput, StageResult
from prefopt.stages.champion import champion_ingest, known_pairs
from prefopt.stages.heldout import heldout_gaps, heldout_votes, split_pairs

PAGE = "decision.html"


def run(context: StageContext) -> StageResult:
    """Write decision.json and decision.html."""
    config, night = context.config, context.config.night
    assert night is not None
    drawn = _Scores(context.parents["evaluate"], config, CHAMPION if night.champion else BASE)
    checks = [drawn.win_rate(night.level), *drawn.slices(), *_accuracies(context, night), *_spread(context)]
    parents = context.parents
    decision = Decision(
        number=night.number,
        after=night.after,
        champion=night.champion.train if night.champion else None,
        challenger=parents["train"].manifest.key,
        full=night.full,
        verdict=verdict_of(checks),
        checks=checks,
        audit=drawn.audit(night.audited),
        drift=read_drift(parents["drift"].storage).sentences,
        keys={name: parent.manifest.key for name, parent in parents.items() if name != "train"},
    )
    context.output.write_bytes(DECISION, encoded(decision))
    context.output.write_bytes(PAGE, render_html(decision).encode())
    asked = checks[0].prompts
    return StageResult(
        rows=Rows(in_=asked, out=asked),
        files=[DECISION, PAGE],
        summary={
            "verdict": decision.verdict,
            "win_rate": checks[0].value,
            "p": checks[0].p,
            "level": night.level,
            "failed": ", ".join(f"{check.name} {check.of}" for check in decision.failed),
        },
    )


class _Scores:
    """Scores of challenger and incumbent on the prompts that decide, and on those of the audit."""

    def __init__(self, evaluate: StageOutput, config: RunConfig, incumbent: str) -> None:
        self._evaluate, self._config, self._incumbent = evaluate, config, incumbent
        self._how = Resampling(config.evaluate.bootstrap, config.evaluate.seed)
        prompts = read_tables(evaluate, "prompts-")
        audit = config.gate.audit
        audited = pc.equal(prompts["set"], audit.prompt_set if audit else "")
        self._audited = frozenset(prompts.filter(audited)["prompt_id"].to_pylist())
        self._sets = prompts.filter(pc.invert(audited))
        self._tables = {model: self._table(model) for model in (TUNED, incumbent)}

    def win_rate(self, level: float) -> Check:
        """On the first reward, over all prompts but the audit's."""
        reward, gate = self._config.evaluate.rewards[0], self._config.gate
        deciding = set(self._sets["prompt_id"].to_pylist()) - self._audited
        mine, theirs, prompts = self._pair(reward, deciding)
        return win_rate_check(reward, mine, theirs, prompts, gate, self._how, self._config.evaluate.ties, level)

    def slices(self) -> list[Check]:
        """By category of each set."""
        reward, found = self._config.evaluate.rewards[0], []
        for name in self._sets["set"].unique().to_pylist():
            rows = self._sets.filter(pc.equal(self._sets["set"], name))
            labels = sorted(filter(None, rows["category"].unique().to_pylist()))
            for label in labels if len(labels) > 1 else []:
                inside = set(rows.filter(pc.equal(rows["category"], label))["prompt_id"].to_pylist()) - self._audited
                if inside:
                    mine, theirs, prompts = self._pair(reward, inside)
                    gate, ties = self._config.gate, self._config.evaluate.ties
                    found.append(slice_check(f"{name}: {label}", mine, theirs, prompts, gate, self._how, ties))
        return found

    def audit(self, before: tuple[int, int]) -> Audit | None:
        """By the audit's reward on the audit's prompts; None where none is configured."""
        audit = self._config.gate.audit
        if audit is None:
            return None
        won, lost = decided(*self._pair(audit.reward, self._audited))
        return audit_of(audit, won, lost, before)

    def _pair(self, reward: str, wanted: set[str] | frozenset[str]) -> tuple[Floats, Floats, list[str]]:
        """Scores [n] of challenger and incumbent, and the prompt ids [n]."""
        mine, theirs = (self._of(model, reward, wanted) for model in (TUNED, self._incumbent))
        assert mine["prompt_id"].equals(theirs["prompt_id"]), "both models drew the same prompts"
        first, second = (table["score"].to_numpy().astype(np.float64) for table in (mine, theirs))
        return first, second, mine["prompt_id"].to_pylist()

    def _table(self, model: str) -> pa.Table:
        pattern = re.compile(rf"scores-{re.escape(model)}-\d+\.parquet")
        files = [name for name in self._evaluate.manifest.files_like("scores-") if pattern.fullmatch(name)]
        return pa.concat_tables(self._evaluate.storage.read_table(name) for name in files)

    def _of(self, model: str, reward: str, wanted: set[str] | frozenset[str]) -> pa.Table:
        table, chosen = self._tables[model], pa.array(sorted(wanted), pa.string())
        return table.filter(pc.and_(pc.equal(table["reward"], reward), pc.is_in(table["prompt_id"], chosen)))


def _accuracies(context: StageContext, night: NightConfig) -> list[Check]:
    """On new and on known held-out pairs, and on every group's votes. A pair that the champion was trained on, and that
    a shared image has moved to the held-out split since, tells nothing and is left out."""
    config, evaluate = context.config, context.parents["evaluate"]
    ingest = context.parents["ingest"]
    pairs, votes = heldout_votes(ingest, split_pairs(ingest, config.evaluate)[0], config)
    files = evaluate.manifest.files_like("accuracy-")
    mine, theirs = (heldout_gaps(evaluate.storage, files, model) for model in (TUNED, CHAMPION))
    telling = mine.keys() - _trained_pairs(night)
    pairs = [pair for pair in pairs if pair.pair_id in telling]
    votes = [vote for vote in votes if vote.pair_id in telling]
    if night.champion is None:
        theirs = {pair: np.zeros_like(gaps) for pair, gaps in mine.items()}
    how = Resampling(config.evaluate.bootstrap, config.evaluate.seed)
    found = []
    for name, chosen in _by_age(context, pairs, night).items():
        rows = [(pair.pair_id, pair.prompt, True) for pair in chosen]
        found.append(_accuracy("accuracy", name, rows, mine, theirs, config, how))
    for name, given in _by_group(votes).items():
        rows = [(vote.pair_id, vote.prompt, vote.for_winner) for vote in given]
        found.append(_accuracy("group", name, rows, mine, theirs, config, how))
    return found


def _accuracy(
    name: Literal["accuracy", "group"],
    of: str,
    rows: Sequence[tuple[str, str, bool]],
    mine: Mapping[str, Floats],
    theirs: Mapping[str, Floats],
    config: RunConfig,
    how: Resampling,
) -> Check:
    pairs, prompts, for_winner = zip(*rows, strict=True)
    clusters = [prompt for pair, prompt in zip(pairs, prompts, strict=True) for _ in mine[pair]]
    ours, others = (agreement(gaps, pairs, for_winner) for gaps in (mine, theirs))
    return accuracy_check(name, of, ours, others, clusters, config.gate, how)


def _trained_pairs(night: NightConfig) -> set[str]:
    if night.champion is None:
        return set()
    pairs = read_tables(champion_ingest(night.champion), "pairs-", ["pair_id", "split"])
    return set(pairs.filter(pc.equal(pairs["split"], "train"))["pair_id"].to_pylist())


def _by_age(context: StageContext, pairs: list[HeldoutPair], night: NightConfig) -> dict[str, list[HeldoutPair]]:
    if night.champion is None:
        return {"all pairs": pairs} if pairs else {}
    votes = read_tables(context.parents["ingest"], "votes-", ["vote_id", "pair_id"])
    known = known_pairs(votes, champion_ingest(night.champion))
    ages = {"new pairs": False, "known pairs": True}
    found = {name: [pair for pair in pairs if (pair.pair_id in known) is old] for name, old in ages.items()}
    return {name: chosen for name, chosen in found.items() if chosen}


def _by_group(votes: Sequence[GroupVote]) -> dict[str, list[GroupVote]]:
    """Votes of each group; none where there is only one."""
    groups: dict[str, list[GroupVote]] = {}
    for vote in votes:
        groups.setdefault(vote.group, []).append(vote)
    return dict(sorted(groups.items())) if len(groups) > 1 else {}


def _spread(context: StageContext) -> list[Check]:
    """Distance and diversity as the evaluation measured them."""
    metrics = json.loads(context.parents["evaluate"].storage.read_bytes("metrics.json"))
    diversity, distance = metrics["diversity"], metrics["distance_from_base"]
    if diversity is None or any(diversity["models"][model]["across"] is None for model in (BASE, TUNED)):
        return []
    across = {model: diversity["models"][model]["across"]["value"] for model in (BASE, TUNED)}
    found = distance["models"][TUNED]
    name, prompts = diversity["features"]["name"], diversity["models"][BASE]["across"]["n"]
    return spread_checks(name, across, found["value"], context.config.gate, prompts, BASE, TUNED)
