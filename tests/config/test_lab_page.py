"""What the laboratory's page is told by its config."""

import pytest
from pydantic import ValidationError

from prefopt.config.lab_page import AnalysisConfig


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ablation": ["dpo"]}, "ablation needs at least two methods"),
        ({"ablation": ["dpo", "smpo", "dpo"]}, "ablation names dpo more than once"),
        ({"families": {"dpo": ["a", "b"]}}, "families needs at least two"),
        ({"families": {"dpo": ["a", "b"], "smpo": ["c"]}}, "families.smpo needs at least two lengths"),
        ({"families": {"dpo": ["a", "a"], "smpo": ["c", "d"]}}, "families.dpo names a more than once"),
        ({"claims": {"kept": 1.2}}, "less than or equal to 1"),
        ({"adaptiv": "x"}, "Extra inputs"),
        ({"stem": "../lab"}, "should match pattern"),
        ({"stem": "Lab"}, "should match pattern"),
        ({"stem": ""}, "should match pattern"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AnalysisConfig.model_validate(given)


def test_files_are_named_after_the_stem() -> None:
    asked = AnalysisConfig(stem="flips-2")
    assert (asked.file, asked.notes_file) == ("flips-2.md", "flips-2-notes.md")
    assert AnalysisConfig(stem="flips-2", notes="why.md").notes_file == "why.md"


def test_parts_are_all_steps_and_lengths() -> None:
    asked = AnalysisConfig(ablation=("dpo", "smpo"), families={"dpo": ("dpo-20", "dpo"), "smpo": ("smpo-5", "smpo")})
    assert asked.parts == {"dpo", "smpo", "dpo-20", "smpo-5"}
