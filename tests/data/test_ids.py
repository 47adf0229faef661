import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.data.ids import (
    canonical_hash,
    digest,
    image_id,
    normalised_prompt,
    pair_id,
    prompt_id,
    row_normal,
    row_rng,
    row_uniform,
    vote_id,
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(words, words, words)
def test_a_pair_is_its_prompt_and_its_images_in_any_order(prompt: str, first: str, second: str) -> None:
    assert pair_id(prompt, first, second) == pair_id(prompt, second, first)


@given(st.lists(words, max_size=4), st.lists(words, max_size=4))
def test_digests_tell_lists_apart(first: list[str], second: list[str]) -> None:
    assert (digest(*first) == digest(*second)) == (first == second)


def test_parts_do_not_run_together() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") != digest("a", "b")
    assert digest("text") == digest(b"text")


def test_an_id_is_a_hash_of_content_and_kind() -> None:
    assert image_id(b"x") == image_id(b"x") != image_id(b"y")
    assert image_id(b"x") != prompt_id("x")
    assert len(image_id(b"x")) == 32
    assert vote_id("p", "a", "1") != vote_id("p", "a", "2")
    assert pair_id("a", "1", "2") != pair_id("b", "1", "2")


def test_known_values_stay() -> None:
    """Stored ids outlive the code: these three were written down once."""
    assert digest() == "e3b0c44298fc1c149afbf4c8996fb924"
    assert canonical_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert canonical_hash({"b": 1, "a": [1.5, None]}) == canonical_hash({"a": [1.5, None], "b": 1})


def test_a_hash_refuses_what_has_no_one_form() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_hash(float("nan"))


@pytest.mark.parametrize("variant", ["A cat", " a  CAT ", "a cat.", "a\tcat ."])
def test_spelling_that_does_not_move_a_split(variant: str) -> None:
    assert normalised_prompt(variant) == "a cat"


@given(st.integers(0, 2**40), words, words)
def test_randomness_is_a_function_of_seed_purpose_and_row(seed: int, purpose: str, row: str) -> None:
    first, again = row_uniform(seed, purpose, row), row_uniform(seed, purpose, row)
    assert first == again
    assert 0.0 <= first < 1.0
    assert row_rng(seed, purpose, row).random() == row_rng(seed, purpose, row).random()
    others = [row_uniform(seed + 1, purpose, row), row_uniform(seed, purpose + "x", row)]
    assert first not in [*others, row_uniform(seed, purpose, row, 0)]


def test_no_draw_moves_another() -> None:
    alone = row_normal((3,), 0, "noise", "b")
    row_normal((100,), 0, "noise", "a")
    np.random.seed(1)
    assert np.array_equal(row_normal((3,), 0, "noise", "b"), alone)


def test_uniforms_are_uniform_and_normals_normal() -> None:
    draws = np.array([row_uniform(0, "test", n) for n in range(4000)])
    assert np.abs(np.histogram(draws, 10, (0, 1))[0] - 400).max() < 80
    noise = row_normal((4000,), 0, "test")
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1.0) < 0.05
