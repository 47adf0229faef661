import pytest

from prefopt.card.prompts import plain_prompt, words


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("A cat,  sitting!", "a cat sitting"),
        ("\uff21 \uff43at", "a cat"),
        ("STRASSE stra\N{LATIN SMALL LETTER SHARP S}e", "strasse strasse"),
        (" !!! ", "!!!"),
        ("8k_render (best)", "8k_render best"),
    ],
)
def test_prompts_are_free_of_case_width_spacing_and_punctuation(prompt: str, plain: str) -> None:
    assert plain_prompt(prompt) == plain


def test_words() -> None:
    assert words("A Cat, a dog") == ["a", "cat", "a", "dog"]
    assert words("...") == []
