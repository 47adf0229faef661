"""Why a pair is suspicious, in words. Its images are called A (image_0) and B (image_1)."""

from collections.abc import Callable, Mapping, Sequence

from prefopt.card.suspicious import Suspect
from prefopt.page.formats import count, percent

A, B = "A", "B"


def reasons(
    suspect: Suspect, share_below: Callable[[float], float | None], standouts: Mapping[str, Sequence[str]]
) -> list[str]:
    """Sentences, the weightiest first. `standouts`: what stands out about an annotator, by the name in judgements."""
    found = [_panel(suspect), _votes(suspect), _changed(suspect), _u(suspect, share_below), _voter(suspect, standouts)]
    return [sentence for sentence in found if sentence]


def _panel(suspect: Suspect) -> str:
    """What the panel says against most of the votes."""
    wins, (for_a, for_b, members) = suspect.wins, suspect.panel
    if wins[0] == wins[1] or for_a == for_b or (wins[0] > wins[1]) == (for_a > for_b):
        return ""
    voted, preferred = (A, B) if wins[0] > wins[1] else (B, A)
    total, most = sum(wins), max(wins)
    part = "All" if most == total else f"{count(most)} of"
    votes = "The vote names" if total == 1 else f"{part} {count(total)} votes name"
    agreeing = max(for_a, for_b)
    panel = f"all {members}" if agreeing == members else f"{agreeing} of the {members}"
    return f"{votes} {voted}, but {panel} scorers of the panel prefer {preferred}."


def _votes(suspect: Suspect) -> str:
    wins = suspect.wins
    if not min(wins):
        return ""
    return f"The votes disagree: {count(wins[0])} for {A}, {count(wins[1])} for {B}."


def _changed(suspect: Suspect) -> str:
    if not suspect.changed:
        return ""
    who = "One annotator" if suspect.changed == 1 else f"{count(suspect.changed)} annotators"
    return f"{who} named {A} at one time and {B} at another."


def _u(suspect: Suspect, share_below: Callable[[float], float | None]) -> str:
    below = None if suspect.u is None else share_below(suspect.u)
    if suspect.u is None or below is None:
        return ""
    what = "minority metric u of the label" if sum(suspect.wins) == 1 else "mean minority metric u of the labels"
    return f"The {what} is {suspect.u:.2f}, higher than for {percent(below)} of all labels."


def _voter(suspect: Suspect, standouts: Mapping[str, Sequence[str]]) -> str:
    for judgement in suspect.judgements:
        if judgement.side and judgement.counts and judgement.annotator in standouts:
            return f"Annotator {judgement.annotator} stands out: {standouts[judgement.annotator][0]}."
    return ""
