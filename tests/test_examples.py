"""Every shipped config loads."""

from pathlib import Path

import pytest

from prefopt.config import load_config
from prefopt.config.lab import load_lab
from prefopt.lab.cells import Cell, grid_cells, tuning_cells
from tests.kit.laboratories import outcome

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
LABS = [path for path in EXAMPLES if path.stem.startswith("lab_") and not path.stem.endswith("_run")]
RUNS = [path for path in EXAMPLES if path not in LABS]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_an_example_loads_under_its_own_name(path: Path) -> None:
    assert load_config(str(path), []).name == path.stem


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_every_cell_of_a_laboratory_is_a_run(path: Path) -> None:
    lab = load_lab(path)
    assert lab.name == path.stem
    tuning = list(tuning_cells(lab))
    grid = list(grid_cells(lab, {cell: outcome(cell) for cell in tuning}))
    assert len(grid) == lab.cells
    one_of_each: dict[tuple[str, str, int | None], Cell] = {
        (cell.method, cell.noise, cell.candidate): cell for cell in [*tuning, *grid]
    }
    for cell in one_of_each.values():
        load_config(lab.run, cell.settings)


def test_the_presets_are_there() -> None:
    assert {"quickstart", "sd15_lora", "sd15_full", "sdxl_lora", "sdxl_full"} <= {path.stem for path in RUNS}
    assert {"lab_world", "lab_small", "lab_sd15", "lab_sdxl"} <= {path.stem for path in LABS}
