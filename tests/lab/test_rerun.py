"""The command that runs a cell again."""

import shlex
from pathlib import Path

import pytest

from prefopt.config import load_config
from prefopt.lab.rerun import RUN_DIR, command
from tests.kit import lab as kit

QUICKSTART = str(Path(__file__).parents[2] / "examples" / "quickstart.yaml")
SETTINGS = [
    "seed=7",
    "inject.flips=[{kind: symmetric, rate: 0.3}]",
    "train.objective={name: dpo, beta: 2000}",
    "evaluate.rewards=[world/true, world/style]",
]


def test_the_command_loads_the_same_config_as_the_settings_do() -> None:
    words = shlex.split(command(kit.outcome("dpo", "flips-30", 7, settings=SETTINGS), QUICKSTART))
    assert words[:5] == ["prefopt", "run", QUICKSTART, "--run-dir", RUN_DIR]
    assert words[5::2] == ["--set"] * len(SETTINGS)
    assert load_config(words[2], words[6::2]) == load_config(QUICKSTART, SETTINGS)


ODD = ["name=a b", "name=$(id)", 'name="x"', "name='y'", "name=`z`", "store=a;b|c&d", "k=*"]


@pytest.mark.parametrize("setting", ODD)
def test_a_shell_reads_each_setting_as_one_word(setting: str) -> None:
    line = command(kit.outcome("dpo", "clean", 0, settings=[setting]), "my runs/run.yaml")
    assert shlex.split(line) == ["prefopt", "run", "my runs/run.yaml", "--run-dir", RUN_DIR, "--set", setting]
