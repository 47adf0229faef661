from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.card.duplicates import Duplicates, DuplicateSearch, Spellings
from prefopt.card.hashes import text_hashes
from prefopt.card.prompts import plain_prompt
from tests.kit.card import Pair, make_shards


def found(pairs: Sequence[Pair], cut: int = 1) -> tuple[Duplicates, Spellings]:
    search = DuplicateSearch()
    for shard in make_shards(pairs, cut=cut):
        search.add(shard.pairs)
    spellings = search.spellings()
    return search.found(spellings), spellings


def hashed(*prompts: str) -> list[int]:
    return [int(one) for one in text_hashes(map(plain_prompt, prompts))]


PAIRS = [
    Pair(prompt="A cat", images=(1, 2)),
    Pair(prompt="a cat!", images=(1, 2), split="test"),
    Pair(prompt="a dog", images=(1, 2)),
    Pair(prompt="a dog", images=(1, 3)),
    Pair(prompt="a dog.", images=(4, 5)),
    Pair(prompt="a  dog", images=(6, 7)),
    Pair(prompt="a bird", images=(8, 9), split="validation"),
]
"""Image 1 is in four pairs under two prompts, image 2 in three under two; cat: 2 ways across splits, dog: 3 in one."""


def test_counts_by_hand() -> None:
    counts, _ = found(PAIRS)
    assert counts == Duplicates(
        images_in_several_pairs=2,
        most_pairs_of_an_image=4,
        images_under_several_prompts=2,
        image_pairs_under_several_prompts=1,
        prompts=6,
        prompts_in_words=3,
        near_duplicate_groups=2,
        near_duplicate_prompts=5,
        near_duplicates_across_splits=1,
    )


def test_groups_across_splits_come_first() -> None:
    assert found(PAIRS)[1].groups.tolist() == hashed("a cat", "a dog")


def test_one_spelling_in_two_splits_is_no_near_duplicate() -> None:
    counts, spellings = found([Pair(prompt="a cat"), Pair(prompt="a cat", split="test")])
    assert (counts.near_duplicate_groups, counts.near_duplicates_across_splits) == (0, 0)
    assert spellings.across.tolist() == [True]
    assert spellings.groups.tolist() == []


@given(st.lists(st.sampled_from(PAIRS), min_size=1, max_size=12), st.integers(1, 5))
def test_counts_do_not_depend_on_the_shards(pairs: list[Pair], cut: int) -> None:
    whole, apart = found(pairs), found(pairs, cut)
    assert whole[0] == apart[0]
    assert whole[1].plain.tolist() == apart[1].plain.tolist()
    assert whole[1].groups.tolist() == apart[1].groups.tolist()


@pytest.mark.parametrize("prompts", [("...", "!!!"), ("a cat", "a dog")])
def test_different_words_are_different_prompts(prompts: tuple[str, str]) -> None:
    assert found([Pair(prompt=prompt) for prompt in prompts])[0].prompts_in_words == 2
