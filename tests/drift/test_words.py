"""Words of prompts: the divergence by hand, and what the value leaves out."""

import numpy as np
import pytest

from prefopt.data.ids import row_rng
from prefopt.drift.chance import Chance, Measured, Unmeasured
from prefopt.drift.words import jensen_shannon, prompt_drift, word_shares


def test_the_divergence_by_hand() -> None:
    """The mixture of (1/2, 1/2, 0) and (0, 1/2, 1/2) has 3/2 bits, both have 1: 1/2 is left."""
    first, second = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])
    assert jensen_shannon(first, second) == pytest.approx(0.5)
    assert jensen_shannon(first, first) == 0.0
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)


def test_each_prompt_weighs_the_same() -> None:
    shares = word_shares(["Red cat", "a red red fox"]).toarray()
    assert shares.tolist() == [[0.0, 0.5, 0.0, 0.5], [0.25, 0.0, 0.25, 0.5]]
    assert word_shares(["?!", ""]).toarray().sum(axis=1).tolist() == [1.0, 1.0]


def prompts(count: int, words: int, seed: int, start: int = 0) -> list[str]:
    rng = row_rng(seed, "words")
    return [
        " ".join(f"w{start + word}" for word in rng.integers(words, size=6)) + f" n{seed}x{n}" for n in range(count)
    ]


def test_other_words_are_far_and_the_same_words_near() -> None:
    near = prompt_drift(prompts(200, 40, 1), prompts(60, 40, 2), Chance(199))
    far = prompt_drift(prompts(200, 40, 1), prompts(60, 40, 2, start=40), Chance(199))
    assert isinstance(near, Measured)
    assert isinstance(far, Measured)
    assert near.figures["distance"] > 0.3 > near.value
    assert near.p > 0.01
    assert far.p == pytest.approx(1 / 200)
    assert 0.7 < far.value < 1.0
    assert (far.known, far.new) == (200, 60)


def test_a_prompt_counts_once_and_one_of_both_sides_is_no_news() -> None:
    known, new = prompts(60, 40, 1), prompts(40, 40, 2)
    assert prompt_drift(known * 3, new + new[:5], Chance(99)) == prompt_drift(known[::-1], new, Chance(99))
    again = prompt_drift(known, known[:30], Chance(99))
    assert isinstance(again, Measured)
    assert (again.value, again.p) == (0.0, 1.0)


def test_few_prompts_are_not_compared() -> None:
    found = prompt_drift(prompts(60, 40, 1), ["the same"] * 50, Chance(99))
    assert isinstance(found, Unmeasured)
    assert "1 new prompts" in found.reason
