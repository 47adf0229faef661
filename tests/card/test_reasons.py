from dataclasses import replace

import pytest

from prefopt.card.reasons import reasons
from prefopt.card.suspicious import Judgement, Suspect

SUSPECT = Suspect(
    pair={"pair_id": "p"},
    cluster="cats",
    judgements=[Judgement("ann", 1, counts=True, flipped=False)],
    votes=1,
    wins=(1, 0),
    ties=0,
    u=None,
    panel=(0, 0, 0),
    changed=0,
    flipped=0,
    suspicion=1.0,
)


def told(below: float | None = 0.98, standouts: dict[str, list[str]] | None = None, **changes: object) -> list[str]:
    return reasons(replace(SUSPECT, **changes), lambda u: below, standouts or {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wins", "panel", "words"),
    [
        ((1, 0), (0, 5, 5), "The vote names A, but all 5 scorers of the panel prefer B."),
        ((0, 2), (3, 1, 5), "All 2 votes name B, but 3 of the 5 scorers of the panel prefer A."),
        ((1, 3), (2, 0, 2), "3 of 4 votes name B, but all 2 scorers of the panel prefer A."),
    ],
)
def test_the_panel_against_the_votes(wins: tuple[int, int], panel: tuple[int, int, int], words: str) -> None:
    assert told(wins=wins, panel=panel)[0] == words


def test_a_panel_that_agrees_or_is_even_is_no_reason() -> None:
    for panel in ((5, 0, 5), (2, 2, 4), (0, 0, 0)):
        assert told(panel=panel) == []
    assert told(wins=(1, 1), panel=(5, 0, 5)) == ["The votes disagree: 1 for A, 1 for B."]


def test_other_reasons() -> None:
    assert told(changed=1) == ["One annotator named A at one time and B at another."]
    assert told(changed=2) == ["2 annotators named A at one time and B at another."]
    assert told(u=0.834) == ["The minority metric u of the label is 0.83, higher than for 98.0% of all labels."]
    assert told(u=0.8, wins=(2, 0))[0].startswith("The mean minority metric u of the labels is 0.80")
    assert told(u=0.8, below=None) == []


def test_a_voter_who_stands_out_is_named() -> None:
    words = {"ann": ["agrees with nobody", "favours a side"]}
    assert told(standouts=words) == ["Annotator ann stands out: agrees with nobody."]
    tie = [Judgement("ann", 0, counts=True, flipped=False)]
    assert told(standouts=words, judgements=tie) == []
