"""Every shipped config loads."""

from pathlib import Path

import pytest

from prefopt.config import load_config

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_under_its_own_name(path: Path) -> None:
    assert load_config(str(path), []).name == path.stem


def test_the_presets_are_there() -> None:
    assert {"quickstart", "sd15_lora", "sd15_full", "sdxl_lora", "sdxl_full"} <= {path.stem for path in EXAMPLES}
