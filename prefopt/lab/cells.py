"""Cells: the runs of a laboratory, each the shared run with a few settings of its own."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from prefopt.config.lab import LabConfig, flip_rate
from prefopt.config.lab_settings import Settings, erasure
from prefopt.errors import ConfigError
from prefopt.lab.outcome import Outcome


@dataclass(frozen=True)
class Cell:
    """A run of the laboratory."""

    method: str
    noise: str
    rate: float | None
    """Share of labels that the noise flips at random; None for another kind of noise."""
    seed: int
    candidate: int | None
    """Which setting a tuning cell tries; None for a cell of the grid."""
    settings: tuple[str, ...]
    """KEY=VALUE, to be applied in this order."""

    @property
    def name(self) -> str:
        """Of its run directory, below the laboratory's."""
        parts = [self.method, self.noise, f"seed {self.seed}"]
        if self.candidate is not None:
            parts.append(f"candidate {self.candidate}")
        kind = "cells" if self.candidate is None else "tuning"
        return f"{kind}/{'--'.join(map(_plain, parts))}"

    @property
    def title(self) -> str:
        """In words."""
        tried = "" if self.candidate is None else f", candidate {self.candidate}"
        return f"{self.method}, {self.noise}, seed {self.seed}{tried}"


def tuning_cells(lab: LabConfig) -> Iterator[Cell]:
    """Every candidate of every method that is tuned, method by method; none where there is nothing to choose."""
    tuning = lab.tuning
    if tuning is None:
        return
    for method, chosen in lab.methods.items():
        candidates = lab.candidates(method)
        if chosen.like is not None or len(candidates) < 2:
            continue
        for number, candidate in enumerate(candidates):
            for seed in tuning.seeds:
                more = {**candidate, **tuning.set, "evaluate.split": "validation"}
                yield _cell(lab, method, tuning.noise, seed, more, number)


def every_cell(lab: LabConfig) -> Iterator[Cell]:
    """The grid's cells with each method's first candidate: what can be said of them before anything is chosen."""
    return _grid(lab, _first_candidates(lab))


def grid_cells(lab: LabConfig, found: Mapping[Cell, Outcome]) -> Iterator[Cell]:
    """The grid's cells whose method's settings can be chosen by now: seed by seed, so that a grid that is cut short
    has whole seeds."""
    return _grid(lab, chosen_candidates(lab, found))


def _grid(lab: LabConfig, chosen: Mapping[str, int]) -> Iterator[Cell]:
    for seed in lab.seeds:
        for noise in lab.noises:
            for method, config in lab.methods.items():
                number = chosen.get(config.like or method)
                if number is not None:
                    yield _cell(lab, method, noise, seed, lab.candidates(config.like or method)[number], None)


def chosen_candidates(lab: LabConfig, found: Mapping[Cell, Outcome]) -> dict[str, int]:
    """The candidate with the highest mean headline score on validation, by method; of equals the first. A method is
    missing until all of its tuning cells are found."""
    chosen = _first_candidates(lab)
    scores: dict[str, dict[int, list[float]]] = {}
    waiting = set()
    for cell in tuning_cells(lab):
        assert cell.candidate is not None, "a tuning cell tries a candidate"
        if cell in found:
            scores.setdefault(cell.method, {}).setdefault(cell.candidate, []).append(found[cell].score)
        else:
            waiting.add(cell.method)
    for method, by_candidate in scores.items():
        means = {number: sum(values) / len(values) for number, values in by_candidate.items()}
        chosen[method] = max(means, key=lambda number: (means[number], -number))
    return {method: number for method, number in chosen.items() if method not in waiting}


def _first_candidates(lab: LabConfig) -> dict[str, int]:
    """Of the methods that have settings of their own to choose."""
    return {method: 0 for method, config in lab.methods.items() if config.like is None}


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """KEY=VALUE of every setting, the value as YAML on one line."""
    return [f"{key}={_flow(value)}" for key, value in settings.items()]


def _cell(lab: LabConfig, method: str, noise: str, seed: int, chosen: Settings, candidate: int | None) -> Cell:
    own = lab.methods[method].set
    taken = {key: value for key, value in chosen.items() if key not in own}
    layers: dict[str, Settings] = {
        "seeded": dict.fromkeys(lab.seeded, seed),
        f"noises.{noise}": lab.noises[noise],
        f"methods.{method}.set": own,
        "tuning": taken,
    }
    settings = {key: value for layer in layers.values() for key, value in layer.items()}
    setter = {key: name for name, layer in layers.items() for key in layer}
    rate = flip_rate(lab.noises[noise])
    cell = Cell(method, noise, rate, seed, candidate, tuple(as_overrides(settings)))
    _refuse_lost(cell, lab, settings, setter)
    return cell


def _refuse_lost(cell: Cell, lab: LabConfig, settings: Settings, setter: Mapping[str, str]) -> None:
    """ConfigError where a setting erases what another one has set before it, or takes the place of the cell's seed.
    `setter`: who sets a key in the end."""
    found = erasure(list(settings))
    if found:
        key, lost = found
        whose = ", the cell's seed" if lost in lab.seeded else f" of {setter[lost]}"
        raise ConfigError(
            f"The cell {cell.title!r}: {setter[key]} sets the whole branch {key!r}, which would erase {lost!r}{whose}."
            f" Set what is meant by keys below {key!r}, as {lost!r} is one."
        )
    for key in lab.seeded:
        if settings[key] != cell.seed:
            raise ConfigError(
                f"The cell {cell.title!r}: {setter[key]} sets {key!r}, which `seeded` gives the cell's seed. Leave it"
                f" out there; or leave it out of `seeded`, and {key!r} is no cell's seed."
            )


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.replace("%", "pct").replace("+", "and")).strip("-")
