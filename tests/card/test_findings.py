from collections.abc import Sequence
from pathlib import Path

import pytest

from prefopt.card.findings import findings
from tests.kit.card import Pair, Vote, surveyed


def told(place: Path, pairs: Sequence[Pair]) -> dict[str, str]:
    """Sentences by section, of several in a section all."""
    found: dict[str, str] = {}
    for one in findings(surveyed(place, pairs)):
        found[one.section] = " ".join([found.get(one.section, ""), one.text]).strip()
    return found


PANEL = {"u": 0.2, "stability": 0.9, "margins": [1.0, 1.0]}


def test_nothing_to_say_but_that_nobody_judged_twice(tmp_path: Path) -> None:
    assert told(tmp_path, [Pair(prompt=f"cat {at}") for at in range(3)]) == {
        "contradictions": "No two people judged the same pair, so the data themselves do not say how sure a label is."
    }


def test_agreement(tmp_path: Path) -> None:
    both = [Pair([Vote("a", 1.0), Vote("b", 1.0)])] * 3
    split = [Pair([Vote("a", 1.0), Vote("b", 0.0)])]
    text = told(tmp_path / "split", [*both, *split])["contradictions"]
    assert "in 75.0% of cases" in text
    assert "the votes of 25.0% of such pairs" in text
    assert "labels.from: share" in text
    assert "Train with" not in told(tmp_path / "both", both)["contradictions"]


def test_panel_and_suspicious_pairs(tmp_path: Path) -> None:
    pairs = [Pair([Vote("a", float(at != 0))], **PANEL) for at in range(4)]  # type: ignore[arg-type]
    found = told(tmp_path, pairs)
    assert found["annotators"].startswith("75.0% of the votes name the winner that most of the panel prefer (")
    assert found["suspicious"].startswith(
        "The labels of 1 pair (25.0%) are at odds with other votes or with the panel."
    )


def test_sides(tmp_path: Path) -> None:
    pairs = [Pair([Vote("", float(at % 10 != 0), first=0)]) for at in range(100)]
    assert "The image shown first wins 90.0% of votes" in told(tmp_path, pairs)["annotators"]


@pytest.mark.parametrize(
    ("prompts", "words"), [(("A", "a.", "B", "b."), "2 prompts are"), (("A", "a."), "1 prompt is")]
)
def test_leaks_between_splits(tmp_path: Path, prompts: Sequence[str], words: str) -> None:
    pairs = [Pair(prompt=prompt, split=("train", "test")[at % 2]) for at, prompt in enumerate(prompts)]
    assert told(tmp_path, pairs)["duplicates"].startswith(f"{words} in training in one spelling and held out")


def test_ties_and_flips(tmp_path: Path) -> None:
    pairs = [Pair([Vote("", 0.5)]), Pair([Vote("", 1.0, flipped=True)]), Pair([Vote("", 1.0)])]
    found = told(tmp_path, pairs)
    assert found["ties"].startswith("33.3% of the votes are ties.")
    assert found["counts"].startswith("1 label was flipped on purpose.")
