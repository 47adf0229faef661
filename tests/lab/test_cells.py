from pathlib import Path
from typing import Any

import pytest

from prefopt.config import load_config
from prefopt.config.lab import flip_rate, load_lab
from prefopt.errors import ConfigError
from prefopt.lab.cells import Cell, as_overrides, chosen_candidates, every_cell, grid_cells, tuning_cells
from prefopt.lab.outcome import read_outcomes
from tests.kit.laboratories import CLEAN, FLIPS, loaded, outcome

TUNING: dict[str, Any] = {
    "noise": "flips 25 %",
    "seeds": [7, 8],
    "candidates": {"train.steps": [1, 2, 3]},
    "set": {"evaluate.samples_per_prompt": 4},
}
METHODS: dict[str, Any] = {
    "dpo": {"set": {"train.objective": {"name": "dpo"}}},
    "ipo": {"set": {"train.objective": {"name": "ipo"}}, "tune": {"train.objective.beta": [10, 20, 30]}},
    "dpo, mirrored": {"set": {"train.objective": {"name": "dpo"}, "score.visits.flip": 0.5}, "like": "dpo"},
}


def test_overrides_come_back_as_what_they_were(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    settings = {"train.optimizer.lr": 1e-5, "train.objective": {"name": "dpo", "beta": 500}, "seed": 3, **FLIPS}
    read = load_config(config.run, as_overrides(settings))
    assert (read.train.optimizer.lr, read.train.objective.name, read.seed) == (1e-5, "dpo", 3)
    assert read.inject.flips[0].model_dump() == FLIPS["inject.flips"][0]


@pytest.mark.parametrize(
    ("noise", "rate"),
    [
        (CLEAN, 0.0),
        (FLIPS, 0.25),
        ({"inject.flips": [{"kind": "group", "rates": {"noir": 1.0}}]}, None),
        ({**FLIPS, "ingest.sources.0.votes_per_pair": 1}, None),
        ({}, None),
        ({"inject.flips": [{"kind": "symmetric"}]}, None),
        ({"inject.flips": ["x"]}, None),
        ({"inject.flips": [*FLIPS["inject.flips"], *FLIPS["inject.flips"]]}, None),
    ],
)
def test_only_random_flips_alone_have_a_rate(noise: dict[str, Any], rate: float | None) -> None:
    assert flip_rate(noise) == rate


def test_every_method_is_tuned_alike_on_validation_and_other_seeds(tmp_path: Path) -> None:
    config = loaded(tmp_path, tuning=TUNING, methods=METHODS)
    cells = list(tuning_cells(config))
    assert [(cell.method, cell.candidate, cell.seed) for cell in cells] == [
        (method, number, seed) for method in ("dpo", "ipo") for number in range(3) for seed in (7, 8)
    ]
    assert len({cell.name for cell in cells}) == len(cells)
    read = load_config(config.run, cells[-1].settings)
    assert (read.evaluate.split, read.evaluate.samples_per_prompt, read.seed, read.ingest.sources[0].seed) == (
        ("validation", 4, 8, 8)  # type: ignore[comparison-overlap]
    )


def test_the_grid_waits_for_what_is_chosen_on_validation(tmp_path: Path) -> None:
    config = loaded(tmp_path, tuning=TUNING, methods=METHODS)
    cells = list(tuning_cells(config))
    rates = {0: 0.6, 1: 0.8, 2: 0.8}
    found = {cell: outcome(cell, rates[cell.candidate or 0]) for cell in cells if cell.method == "dpo"}
    assert chosen_candidates(config, found) == {"dpo": 1}, "of equals the first"
    grid = list(grid_cells(config, found))
    assert {cell.method for cell in grid} == {"dpo", "dpo, mirrored"}
    assert all("train.steps=2" in cell.settings for cell in grid)
    del found[cells[0]]
    assert list(grid_cells(config, found)) == []


def test_methods_are_tuned_by_scores_whatever_win_rates_say(tmp_path: Path) -> None:
    config = loaded(tmp_path, tuning=TUNING, methods={"dpo": METHODS["dpo"]})
    scores = (0.1, 0.3, 0.2)
    found = {
        cell: outcome(cell, 0.9 - scores[cell.candidate or 0], scores={"world/true": scores[cell.candidate or 0]})
        for cell in tuning_cells(config)
    }
    assert chosen_candidates(config, found) == {"dpo": 1}


def test_what_a_method_sets_itself_stands(tmp_path: Path) -> None:
    longer = {"set": {"train.objective": {"name": "dpo"}, "train.steps": 9}, "like": "dpo"}
    config = loaded(tmp_path, tuning=TUNING, methods={"dpo": METHODS["dpo"], "dpo-9": longer})
    found = {cell: outcome(cell) for cell in tuning_cells(config)}
    steps = {cell.method: load_config(config.run, cell.settings).train.steps for cell in grid_cells(config, found)}
    assert steps == {"dpo": 1, "dpo-9": 9}


def test_cells_differ_in_what_they_are_named_for(tmp_path: Path) -> None:
    config = loaded(tmp_path, seeds=[3, 4])
    cells = list(grid_cells(config, {}))
    assert len({cell.name for cell in cells}) == len(cells) == 8
    assert [cell.seed for cell in cells] == [3] * 4 + [4] * 4, "a grid that is cut short has whole seeds"
    first: Cell = cells[0]
    assert first.name == "cells/dpo--clean--seed-3"


PEOPLE = {"ingest.sources": [{"kind": "world"}]}


@pytest.mark.parametrize(
    ("branches", "words"),
    [
        (
            {"noises": {"clean": CLEAN, "people": PEOPLE}},
            "'dpo, people, seed 3': noises.people sets the whole branch 'ingest.sources', which would erase"
            " 'ingest.sources.0.seed', the cell's seed",
        ),
        (
            {"methods": {"dpo": {"set": {"score.visits": {"flip": 0.5}}}}},
            "methods.dpo.set sets the whole branch 'score.visits', which would erase 'score.visits.seed'",
        ),
        (
            {"noises": {"clean": CLEAN, "fixed": {"evaluate.seed": 0}}},
            "noises.fixed sets 'evaluate.seed', which `seeded` gives the cell's seed",
        ),
        (
            {"methods": {"dpo": {"set": {"seed": 0}}}},
            "methods.dpo.set sets 'seed', which `seeded` gives the cell's seed",
        ),
        (
            {"noises": {"clean": CLEAN, "short": {"train.steps": 2}}, "methods": {"dpo": {"set": {"train": {}}}}},
            "'dpo, short, seed 3': methods.dpo.set sets the whole branch 'train', which would erase 'train.steps' of"
            " noises.short",
        ),
    ],
)
def test_no_setting_is_lost_without_a_word(tmp_path: Path, branches: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        list(every_cell(loaded(tmp_path, **branches)))
    assert words in str(raised.value)


def test_tuning_cells_keep_their_seeds_too(tmp_path: Path) -> None:
    config = loaded(tmp_path, tuning={**TUNING, "set": {"evaluate": {"samples_per_prompt": 4}}})
    with pytest.raises(ConfigError, match=r"tuning sets the whole branch 'evaluate', .* 'evaluate.seed'"):
        list(tuning_cells(config))


def test_cells_of_the_published_laboratory_are_found_again() -> None:
    root = Path(__file__).parents[2]
    lab = load_lab(root / "examples" / "lab_world.yaml")
    kept = (root / "docs" / "results" / "lab.jsonl").read_bytes()
    known = {tuple(one.settings): one for one in read_outcomes(kept, "lab.jsonl")}
    tuned = {cell: known[cell.settings] for cell in tuning_cells(lab)}
    grid = [cell.settings for cell in grid_cells(lab, tuned)]
    assert len(grid) == lab.cells
    assert set(grid) <= set(known)
