"""What the page's sections show: figures of the analyses as rows of tables, and the pictures that go with them."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from prefopt.config.lab_page import AnalysisConfig
from prefopt.lab import pictures as draw
from prefopt.lab.analysis.ablation import ablations
from prefopt.lab.analysis.cost import lengths, reached
from prefopt.lab.analysis.detection import Detection, Doubted, detections
from prefopt.lab.analysis.duels import Duel, against, all_duels
from prefopt.lab.analysis.gain import gain_lines
from prefopt.lab.grid import MEASURES, Grid, Noise
from prefopt.lab.outcome import BINS

Pictures = dict[str, str]
"""SVG texts by file name; sections add theirs."""
Section = dict[str, Any]


def gain_sections(grid: Grid, asked: AnalysisConfig, methods: Sequence[str], pictures: Pictures) -> list[Section]:
    """For each measure, gains over flip rates."""
    found = []
    for measure in MEASURES if grid.rated else ():
        lines = gain_lines(grid, methods, asked.reference, measure)
        if lines:
            name = f"{asked.stem}-gain-{measure.slug}.svg"
            main = (asked.reference, asked.adaptive, *asked.baselines[:1])
            pictures[name] = draw.gain_picture(lines, measure.name, main)
            found.append({"measure": measure, "lines": lines, "picture": name})
    return found


def duel_sections(grid: Grid, asked: AnalysisConfig, methods: Sequence[str]) -> list[Section]:
    """For each measure, the adaptive method against all others, and each against every other."""
    found = []
    for measure in MEASURES:
        own = against(grid, asked.adaptive, methods, measure)
        every = all_duels(grid, methods, measure)
        by_pair = {(one.noise, one.first, one.second): one for one in every}
        tables = [_matrix(noise, methods, by_pair) for noise in grid.noises if any(d.noise == noise for d in every)]
        rows = [
            {"name": other, "cells": [_find(own, noise, other) for noise in grid.noises]}
            for other in dict.fromkeys(one.second for one in own)
        ]
        found.append({"measure": measure, "first": rows, "tables": tables, "count": len(every)})
    return found


def spread_sections(grid: Grid, asked: AnalysisConfig, methods: Sequence[str], pictures: Pictures) -> list[Section]:
    """For each source of u, its distribution: of the adaptive method where it has one, else of the first that has."""
    found = []
    for source, group in groupby(detections(grid, methods), key=lambda one: one.source):
        spreads = list(group)
        names = dict.fromkeys(name for one in spreads for name in one.methods)
        method = asked.adaptive if asked.adaptive in names else next(iter(names))
        own = [one for one in spreads if method in one.methods]
        name = f"{asked.stem}-u-{source}.svg"
        pictures[name] = draw.spread_picture(own)
        title = f"{source.capitalize()} u" + ("" if len(names) > 1 else f" of {method}")
        found.append({"source": source, "title": title, "picture": name, **_bins(own)})
    return found


def ablation_section(grid: Grid, asked: AnalysisConfig, pictures: Pictures) -> Section:
    """Tables at every noise; the picture is of the first at which all steps can be compared."""
    if not asked.ablation:
        return {"ablations": [], "ablation_picture": None}
    found = [one for measure in MEASURES for one in ablations(grid, asked.ablation, measure)]
    found.sort(key=lambda one: grid.noises.index(one.noise))
    best = next((one.noise for one in found if one.whole), found[0].noise if found else None)
    name = f"{asked.stem}-ablation.svg" if found else None
    if name:
        pictures[name] = draw.ablation_picture([one for one in found if one.noise == best])
    return {"ablations": found, "ablation_picture": name}


def cost_sections(grid: Grid, asked: AnalysisConfig, pictures: Pictures) -> list[Section]:
    """For each noise at which a family can be compared with the first."""
    found: list[Section] = []
    families = asked.families
    for noise in grid.noises if families else ():
        reach = [
            {"measure": measure.name, "found": one}
            for measure in MEASURES
            for one in reached(grid, noise, families, measure)
        ]
        if not reach:
            continue
        by_measure = {measure: lengths(grid, noise, families, measure) for measure in MEASURES}
        qualities = [{one.method: one.quality for one in made} for made in by_measure.values()]
        rows = [
            {**vars(one), "qualities": [found.get(one.method) for found in qualities]}
            for one in next(iter(by_measure.values()))
        ]
        name = f"{asked.stem}-cost-{len(found) + 1}.svg"
        pictures[name] = draw.cost_picture([(measure.name, made) for measure, made in by_measure.items() if made])
        found.append({"noise": noise, "lengths": rows, "reached": reach, "picture": name})
    return found


def _find(duels: Sequence[Duel], noise: Noise, second: str) -> Duel | None:
    return next((one for one in duels if (one.noise, one.second) == (noise, second)), None)


def _matrix(noise: Noise, methods: Sequence[str], duels: dict[tuple[Noise, str, str], Duel]) -> Section:
    """Above the diagonal: a duel stands once."""
    rows = [
        {
            "name": first,
            "cells": [
                duels.get((noise, first, second), False) if place >= row else None
                for place, second in enumerate(methods[1:])
            ],
        }
        for row, first in enumerate(methods[:-1])
    ]
    return {"title": noise.title, "columns": methods[1:], "rows": rows}


def _bins(found: Sequence[Detection]) -> Section:
    """Shares of each bin of u that some noise fills."""
    columns, shares = [], []
    for one in found:
        for doubted, kind in ((one.flipped, "flipped"), (one.minority, "minority")):
            if doubted:
                columns.append(f"{one.noise.title}, {kind}")
                shares.append(_shares(one, doubted))
    rows = [
        {"name": f"{place / BINS:.2f} to {(place + 1) / BINS:.2f}", "cells": [share[place] for share in shares]}
        for place in range(BINS)
        if any(one.labels[place] for one in found)
    ]
    return {"columns": columns, "rows": rows}


def _shares(one: Detection, doubted: Doubted) -> list[str]:
    return [
        f"{100.0 * doubted.labels[place] / labels:.0f}% of {labels:,}" if labels else ""
        for place, labels in enumerate(int(count) for count in one.labels)
    ]
