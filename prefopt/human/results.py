"""Votes turned into figures: human.json and human.md."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefopt.data.storage import Storage
from prefopt.evaluation.statistics import Estimate, Resampling, TieRule, estimate_record, mean_estimate
from prefopt.human.pairs import RESULTS, SUMMARY, Key, human_directory, read_key
from prefopt.human.statistics import Agreement, Votes, agreement, crossed_estimate
from prefopt.human.votes import Choice, Vote, VoteColumns, VotesRead, read_votes
from prefopt.page.formats import percent

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class HumanComparison:
    """What people chose between a model and the first one."""

    model: str
    first: str
    wins: Estimate | None
    """The model's win rate; None without a vote on its pairs."""
    losses: Estimate | None
    """The first model's, under the same tie rule and on the same draws."""
    ties: float | None
    """Share of votes that are ties."""
    pairs: int
    prompts: int
    annotators: int


@dataclass(frozen=True)
class AnnotatorFigures:
    """One person's votes."""

    annotator: str
    votes: int
    """On first showings and repetitions."""
    left: float | None
    """Share of left among the votes for a side."""
    repeats: int
    """Pairs that were judged on both showings."""
    consistent: int
    """Of these, with the same model chosen, or a tie both times."""


@dataclass(frozen=True)
class HumanResults:
    """All figures of one import."""

    evaluation: str
    models: tuple[str, ...]
    tie_rule: TieRule
    level: float
    read: VotesRead
    repeat_votes: int
    """Votes on repetitions: they measure consistency and count in nothing else."""
    comparisons: list[HumanComparison]
    agreement: Agreement | None
    """Of choices as given (left, right, tie) on first showings; None where nobody shared a pair."""
    consistency: Estimate | None
    left: float | None
    annotators: list[AnnotatorFigures]


def import_votes(
    path: str,
    run: Storage,
    evaluation: str,
    *,
    ties: TieRule,
    how: Resampling,
    columns: VoteColumns | None = None,
) -> HumanResults:
    """Read votes on an evaluation's exported pairs, and write human.json and human.md below human/ of the run.

    Raises InputError if the pairs were never exported, or for a file without a valid vote.
    """
    place = human_directory(run, evaluation)
    key = read_key(place)
    results = human_results(key, read_votes(path, key.pairs, columns), ties, how)
    content = json.dumps(human_record(results), indent=1, sort_keys=True, allow_nan=False) + "\n"
    place.write_bytes(RESULTS, content.encode())
    place.write_bytes(SUMMARY, human_markdown(results).encode())
    return results


def human_results(key: Key, read: VotesRead, ties: TieRule, how: Resampling) -> HumanResults:
    """All figures of valid votes on a key's pairs."""
    first = [vote for vote in read.votes if key.pairs[vote.pair_id].repeats is None]
    same = _consistency(key, read.votes)
    told = [(annotator, value) for annotator, values in same.items() for value in values]
    return HumanResults(
        evaluation=key.evaluation,
        models=key.models,
        tie_rule=ties,
        level=how.bootstrap.level,
        read=read,
        repeat_votes=len(read.votes) - len(first),
        comparisons=[_compare(key, model, first, ties, how) for model in key.models[1:]],
        agreement=agreement([vote.pair_id for vote in first], [vote.choice for vote in first]),
        consistency=mean_estimate([value for _, value in told], [name for name, _ in told], how, "consistency")
        if told
        else None,
        left=_left(vote.choice for vote in read.votes),
        annotators=_annotators(read.votes, same),
    )


def chosen_model(key: Key, vote: Vote) -> str | None:
    """The model whose image a vote prefers; None for a tie."""
    pair = key.pairs[vote.pair_id]
    return {"left": pair.left, "right": pair.right, "tie": None}[vote.choice]


def _compare(key: Key, model: str, votes: Sequence[Vote], ties: TieRule, how: Resampling) -> HumanComparison:
    mine = [vote for vote in votes if model in (key.pairs[vote.pair_id].left, key.pairs[vote.pair_id].right)]
    chosen = [chosen_model(key, vote) for vote in mine]
    prompts = [key.pairs[vote.pair_id].drawn.prompt_id for vote in mine]
    annotators = [vote.annotator for vote in mine]
    tied = 0.5 if ties == "half" else 0.0

    def rate(of: str) -> Estimate | None:
        points = [tied if name is None else float(name == of) for name in chosen]
        return crossed_estimate(Votes.of(points, prompts, annotators), how, "human win rate") if points else None

    return HumanComparison(
        model=model,
        first=key.models[0],
        wins=rate(model),
        losses=rate(key.models[0]),
        ties=chosen.count(None) / len(chosen) if chosen else None,
        pairs=len({vote.pair_id for vote in mine}),
        prompts=len(set(prompts)),
        annotators=len(set(annotators)),
    )


def _consistency(key: Key, votes: Sequence[Vote]) -> dict[str, list[float]]:
    """For each annotator and pair judged on both showings, in order: 1 if the choice was the same, else 0."""
    chosen = {(vote.annotator, vote.pair_id): chosen_model(key, vote) for vote in votes}
    same: dict[str, list[float]] = defaultdict(list)
    for (annotator, pair_id), choice in sorted(chosen.items(), key=lambda item: item[0]):
        before = key.pairs[pair_id].repeats
        if before is not None and (annotator, before) in chosen:
            same[annotator].append(float(choice == chosen[annotator, before]))
    return same


def _annotators(votes: Sequence[Vote], same: Mapping[str, Sequence[float]]) -> list[AnnotatorFigures]:
    choices: dict[str, list[Choice]] = defaultdict(list)
    for vote in votes:
        choices[vote.annotator].append(vote.choice)
    return [
        AnnotatorFigures(name, len(given), _left(given), len(same.get(name, ())), int(sum(same.get(name, ()))))
        for name, given in sorted(choices.items())
    ]


def _left(choices: Iterable[Choice]) -> float | None:
    sides = [choice == "left" for choice in choices if choice != "tie"]
    return sum(sides) / len(sides) if sides else None


def human_record(results: HumanResults) -> dict[str, Any]:
    """The content of human.json. What was not measured is null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation": results.evaluation,
        "models": list(results.models),
        "tie_rule": results.tie_rule,
        "level": results.level,
        "rows": results.read.rows,
        "valid": len(results.read.votes),
        "skipped": {reason: asdict(found) for reason, found in results.read.skipped.items()},
        "repeat_votes": results.repeat_votes,
        "comparisons": [_comparison_record(found) for found in results.comparisons],
        "agreement": {"measure": "krippendorff_alpha_nominal", **asdict(results.agreement)}
        if results.agreement
        else None,
        "consistency": estimate_record(results.consistency) if results.consistency else None,
        "left_share": results.left,
        "annotators": [asdict(found) for found in results.annotators],
    }


def _comparison_record(found: HumanComparison) -> dict[str, Any]:
    rates = {"wins": found.wins, "losses": found.losses}
    return {**asdict(found), **{name: estimate_record(rate) if rate else None for name, rate in rates.items()}}


def human_lines(results: HumanResults) -> list[str]:
    """Each comparison in one sentence."""
    return [_sentence(found, results.level) for found in results.comparisons]


def _sentence(found: HumanComparison, level: float) -> str:
    if found.wins is None:
        return f"{found.model} over {found.first}: no votes."
    return (
        f"{found.model} over {found.first}: {percent(found.wins.value)}{_interval(found.wins, level)} of"
        f" {found.wins.n} votes on {found.pairs} pairs by {found.annotators} annotators."
    )


def _interval(estimate: Estimate, level: float) -> str:
    if estimate.low is None:
        return ""
    return f" ({100.0 * level:g}% interval {percent(estimate.low)} to {percent(estimate.high)})"


def human_markdown(results: HumanResults) -> str:
    """A short summary."""
    ties = "half for each model" if results.tie_rule == "half" else "for nobody"
    lines = ["# Human evaluation", "", *[f"- {line}" for line in human_lines(results)], f"- A tie counts {ties}."]
    if results.agreement:
        found = results.agreement
        alpha = "not defined" if found.alpha is None else f"{found.alpha:.2f}"
        lines.append(
            f"- Agreement on {found.units} pairs with several votes: Krippendorff's alpha {alpha}, observed"
            f" {percent(found.observed)}."
        )
    if results.consistency:
        same = results.consistency
        lines.append(
            f"- The same choice on {percent(same.value)}{_interval(same, results.level)} of {same.n} repeated pairs."
        )
    if results.left is not None:
        lines.append(f"- Left was chosen in {percent(results.left)} of the votes for a side.")
    lines += ["", f"{results.read.rows} rows, {len(results.read.votes)} valid votes.", ""]
    if results.read.skipped:
        skipped = [[reason, str(found.count), str(found.first_line)] for reason, found in results.read.skipped.items()]
        lines += [*_table(["skipped rows", "count", "first line"], skipped), ""]
    people = [
        [found.annotator, str(found.votes), percent(found.left), str(found.repeats), str(found.consistent)]
        for found in results.annotators
    ]
    lines += _table(["annotator", "votes", "left", "repeated", "same choice"], people)
    return "\n".join(lines) + "\n"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in [header, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{' --- |' * len(header)}", *lines[1:]]
