"""What a reader should know first: the figures that ask for a decision, in sentences."""

from collections.abc import Callable
from dataclasses import dataclass

from prefopt.card.survey import Survey
from prefopt.page.formats import count, ends, percent

MANY_TIES, MANY_REFUSED, LOW_AGREEMENT = 0.1, 0.01, 0.9


@dataclass(frozen=True)
class Finding:
    """A sentence or two, and the section that says more."""

    section: str
    text: str


def findings(found: Survey) -> list[Finding]:
    """In the order in which they matter."""
    return [one for rule in _RULES if (one := rule(found))]


def _agreement(found: Survey) -> Finding | None:
    agreement = found.agreement
    if agreement.value is None:
        text = "No two people judged the same pair, so the data themselves do not say how sure a label is."
    else:
        text = (
            f"Two people who judge the same pair name the same winner in {percent(agreement.value)} of cases"
            f" (50% would be chance), and the votes of {percent(found.contradicted.value)} of such pairs contradict"
            " each other."
        )
        if agreement.value < LOW_AGREEMENT:
            text += " Train with an objective that expects wrong labels, such as adaptive_dpo, or weigh votes by"
            text += " labels.from: share."
    return Finding("contradictions", text)


def _panel(found: Survey) -> Finding | None:
    panel = found.people.everyone["panel"]
    if panel.value is None:
        return None
    text = f"{percent(panel.value)} of the votes name the winner that most of the panel prefer ({ends(panel)})."
    return Finding("annotators", text)


def _suspects(found: Survey) -> Finding | None:
    if not found.suspects_found:
        return None
    share = percent(found.suspects_found / found.counts.pairs)
    pairs = "1 pair" if found.suspects_found == 1 else f"{count(found.suspects_found)} pairs"
    by = "other votes or with the panel" if found.has_panel else "other votes"
    text = f"The labels of {pairs} ({share}) are at odds with {by}."
    return Finding("suspicious", f"{text} Look at the first of them before training.")


def _standouts(found: Survey) -> Finding | None:
    people = found.people
    if not people.standing_out:
        return None
    text = f"{count(people.standing_out)} of the {count(people.counted)} annotators with enough votes"
    verb = "stand" if people.standing_out > 1 else "stands"
    return Finding("annotators", f"{text} {verb} out beyond chance: look at their votes, or leave them out.")


def _position(found: Survey) -> Finding | None:
    first = found.people.everyone["first"]
    if not found.people.position_known or first.low is None or first.high is None or first.low <= 0.5 <= first.high:
        return None
    return Finding(
        "annotators",
        f"The image shown first wins {percent(first.value)} of votes ({ends(first)}): the side matters, or the source"
        " does not place images at random.",
    )


def _leak(found: Survey) -> Finding | None:
    across = found.duplicates.near_duplicates_across_splits
    if not across:
        return None
    text = "1 prompt is" if across == 1 else f"{count(across)} prompts are"
    return Finding(
        "duplicates",
        f"{text} in training in one spelling and held out in another: results on held-out prompts may flatter. Give"
        " them one spelling before ingest.",
    )


def _ties(found: Survey) -> Finding | None:
    if not found.ties.value or found.ties.value < MANY_TIES:
        return None
    text = f"{percent(found.ties.value)} of the votes are ties. They stay in the tables and leave training, unless the"
    return Finding("ties", f"{text} objective takes them.")


def _refused(found: Survey) -> Finding | None:
    rows = sum(reason["rows"] for reason in found.counts.quarantine.values())
    if rows <= MANY_REFUSED * found.counts.votes:
        return None
    text = f"{count(rows)} rows were refused, mostly as {_main_reason(found)}: quarantine.parquet of the ingest stage"
    return Finding("counts", f"{text} names each.")


def _main_reason(found: Survey) -> str:
    refused = found.counts.quarantine
    return max(refused, key=lambda reason: (refused[reason]["rows"], reason)).replace("_", " ")


def _flipped(found: Survey) -> Finding | None:
    counts = found.counts
    if not counts.flipped:
        return None
    labels = "1 label was" if counts.flipped == 1 else f"{count(counts.flipped)} labels were"
    text = f"{labels} flipped on purpose. Annotators and contradictions are counted before that, suspicious pairs and u"
    return Finding("counts", f"{text} after it, as training sees the labels.")


_RULES: tuple[Callable[[Survey], Finding | None], ...] = (
    _flipped,
    _agreement,
    _panel,
    _suspects,
    _standouts,
    _position,
    _leak,
    _ties,
    _refused,
)
