import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefopt.card.clusters import Clusters, find_clusters
from prefopt.world.scenes import all_prompts

THEMES = {
    "cat": "a cute {} cat sleeping on a pillow",
    "car": "vintage {} sports car parked at the beach",
    "city": "cyberpunk street at night, neon lights, {}",
    "meal": "a plate of {} pasta, food photography",
}
EXTRAS = ["red", "blue", "green", "white", "old", "tiny", "huge", "wet", "shiny", "dusty", "broken", "golden"]
PROMPTS = sorted(text.format(extra) for text in THEMES.values() for extra in EXTRAS)


def theme(prompt: str) -> str:
    return next(name for name, text in THEMES.items() if text.split("{}")[0] in prompt)


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    return find_clusters(PROMPTS, 4, seed=0)


def test_alike_prompts_are_together_and_named_by_their_words(clusters: Clusters) -> None:
    place = clusters.place(PROMPTS)
    groups = {theme(prompt): group for prompt, group in zip(PROMPTS, place.tolist(), strict=True)}
    assert len(set(groups.values())) == 4
    assert all(groups[theme(prompt)] == group for prompt, group in zip(PROMPTS, place.tolist(), strict=True))
    told = {"cat": "pillow", "car": "vintage", "city": "neon", "meal": "pasta"}
    for name, group in groups.items():
        words = clusters.names[group].split(", ")
        assert len(words) == 4
        assert set(words) <= set(THEMES[name].replace(",", "").split())
        assert told[name] in THEMES[name]


def test_a_prompt_never_seen_goes_to_the_nearest(clusters: Clusters) -> None:
    known = clusters.place(["a cute red cat sleeping on a pillow"])
    assert clusters.place(["a sleeping cat, cute"]).tolist() == known.tolist()
    assert 0 <= clusters.place(["xyzzy"])[0] < 4
    assert clusters.place([]).tolist() == []


def test_a_prompts_group_does_not_depend_on_the_others(clusters: Clusters) -> None:
    one_by_one = [clusters.place([prompt])[0] for prompt in PROMPTS]
    assert clusters.place(PROMPTS).tolist() == one_by_one


def test_the_same_seed_gives_the_same_groups(clusters: Clusters) -> None:
    again = find_clusters(PROMPTS, 4, seed=0)
    assert again.names == clusters.names
    assert np.array_equal(again.place(PROMPTS), clusters.place(PROMPTS))


@pytest.mark.parametrize("prompts", [[], ["a cat"], ["a cat", "a dog", "a bird", "a fish"], ["!!!"] * 3, ["same"] * 30])
def test_too_few_prompts_are_one_group(prompts: list[str]) -> None:
    found = find_clusters(prompts, 12, seed=0)
    assert len(found.names) == 1
    assert set(found.place([*prompts, "another"]).tolist()) == {0}


def test_languages_without_spaces() -> None:
    texts = ("\u732b\u306e\u5199\u771f\u3092\u64ae\u308b", "\u8d64\u3044\u8eca\u304c\u6d77\u8fba\u3092\u8d70\u308b")
    prompts = [f"{text}{number}" for text in texts for number in range(10)]
    place = find_clusters(prompts, 2, seed=0).place(prompts)
    assert len(set(place[:10].tolist())) == len(set(place[10:].tolist())) == 1
    assert place[0] != place[10]


@settings(max_examples=5)
@given(st.integers(0, 100))
def test_groups_of_the_world_cover_every_prompt(seed: int) -> None:
    prompts = [prompt.text for prompt in all_prompts()]
    random.Random(seed).shuffle(prompts)
    found = find_clusters(prompts, 6, seed=seed)
    place = found.place(prompts)
    assert 1 < len(found.names) <= 6
    assert set(place.tolist()) == set(range(len(found.names)))
