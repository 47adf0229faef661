"""The laboratory's page: what a grid of outcomes says, as Markdown with pictures beside it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from prefopt.config.lab_page import AnalysisConfig
from prefopt.data.storage import Storage
from prefopt.lab import wording
from prefopt.lab.analysis.claims import claims
from prefopt.lab.analysis.detection import LEAST, detections
from prefopt.lab.analysis.groups import group_tables
from prefopt.lab.analysis.methods import facts
from prefopt.lab.analysis.minority import knowing, minority_shares
from prefopt.lab.analysis.tuning import tunings
from prefopt.lab.grid import MEASURES, Grid, Place
from prefopt.lab.outcome import BINS, Outcome
from prefopt.lab.rerun import RUN_DIR, command
from prefopt.lab.sections import (
    Pictures,
    ablation_section,
    cost_sections,
    duel_sections,
    gain_sections,
    spread_sections,
)
from prefopt.page.environment import page_environment


def write_page(
    outcomes: Sequence[Outcome],
    analysis: AnalysisConfig,
    directory: str,
    *,
    planned: Sequence[Place],
    chosen: Mapping[str, int],
    title: str,
    model: str,
    run: str,
    made_by: str,
) -> list[str]:
    """Write the page, STEM.md, and its pictures, STEM-*.svg, by the config's stem, into a directory, a path or URI;
    returns their places, the page first. Same outcomes, same bytes.

    `planned`: every cell of the laboratory's grid; `chosen`: the candidate of each method, without those that are still
    being tuned; `run`: path of the laboratory's run config, as commands name it; `made_by`: the command or version that
    made the outcomes. Pictures of its own that the page to be replaced links to, and this one does not, are removed.
    Raises InputError where outcomes are of two grids.
    """
    folder, page = Storage(directory), analysis.file
    notes = _text(folder, analysis.notes_file).strip("\n")
    told = {"title": title, "model": model, "run": run, "made_by": made_by}
    files = page_files(outcomes, analysis, notes, planned=planned, chosen=chosen, **told)
    for stale in sorted(_linked(_text(folder, page), analysis.stem) - _linked(files[page], analysis.stem)):
        folder.delete(stale)
    for name, text in files.items():
        folder.write_bytes(name, text.encode())
    return [f"{folder.uri}/{name}" for name in files]


def page_files(
    outcomes: Sequence[Outcome],
    analysis: AnalysisConfig,
    notes: str,
    *,
    planned: Sequence[Place],
    chosen: Mapping[str, int],
    title: str,
    model: str,
    run: str,
    made_by: str,
) -> dict[str, str]:
    """Texts by file name, the page first."""
    grid, tuned = Grid.of(outcomes), tunings(outcomes, chosen)
    methods = grid.shown(analysis)
    pictures: Pictures = {}
    cells = [one for seeds in grid.cells.values() for one in seeds.values()]
    commands = [command(one, run) for one in cells]
    shares = minority_shares(grid, analysis.reference)
    values: dict[str, Any] = {
        "title": title,
        "opening": _opening(grid, cells, model, run, made_by),
        "reading": _reading(grid, planned, cells),
        "asked": analysis,
        "seeds": len(grid.seeds),
        "methods": len(methods),
        "clean": grid.clean,
        "noises": [noise.title for noise in grid.noises],
        "distances": [f"distance, {noise.title}" for noise in grid.noises],
        "rated": [noise.title for noise in grid.rated],
        "claims": claims(grid, analysis),
        "notes": notes,
        "gains": gain_sections(grid, analysis, methods, pictures),
        "duels": duel_sections(grid, analysis, methods),
        "detections": detections(grid, methods),
        "spreads": spread_sections(grid, analysis, methods, pictures),
        "bins": BINS,
        "least": LEAST,
        "shares": shares,
        "knowing": knowing(grid, analysis.reference),
        "facts": facts(grid, methods),
        "largest": max((row.largest for row in shares if row.largest is not None), default=None),
        "groups": group_tables(grid, methods, analysis.reference),
        **ablation_section(grid, analysis, pictures),
        "first_family": next(iter(analysis.families), None),
        "measures": MEASURES,
        "costs": cost_sections(grid, analysis, pictures),
        "tunings": tuned,
        "equally": wording.equal_tries([one for one in tuned if one.chosen is not None]),
        "cells": list(zip(cells, commands, strict=True)),
        "run_dir": RUN_DIR,
        "fence": _fence(commands),
    }
    return {analysis.file: _environment().get_template("lab.md.j2").render(values), **pictures}


def _environment() -> jinja2.Environment:
    environment = page_environment("prefopt.lab")
    environment.filters |= {
        "figure": wording.figure,
        "signed": wording.signed,
        "share": wording.share,
        "amount": wording.amount,
        "p": wording.p_value,
        "listed": wording.listed,
        "claimed": wording.claimed,
        "bound": wording.bound,
        "reach": wording.reach,
        "by_seed": wording.by_seed,
        "line": lambda text: " ".join(str(text).split()),
    }
    return environment


def _opening(grid: Grid, cells: Sequence[Outcome], model: str, run: str, made_by: str) -> str:
    if not cells:
        return "No cell of the grid has an outcome yet."
    return (
        f"{len(cells):,} runs on {model}: {wording.counted(len(grid.methods), 'method')},"
        f" {wording.counted(len(grid.noises), 'kind')} of label noise, {wording.counted(len(grid.seeds), 'seed')}"
        f" ({', '.join(map(str, grid.seeds))}). Each is an ordinary run of `{run}` with other settings, and can be run"
        f" again by the command at the end of this page. Made by {made_by}."
    )


def _reading(grid: Grid, planned: Sequence[Place], cells: Sequence[Outcome]) -> list[str]:
    """What a reader must know of every table."""
    if not cells:
        return []
    headlines = list(dict.fromkeys(next(iter(one.win_rates)) for one in cells))
    found = [
        f"Win rate: share of comparisons with the base that the tuned model's image wins on `{'`, `'.join(headlines)}`,"
        " ties half; both start from the same noise, so that a small change for the better wins nearly always, and win"
        " rates of good models hardly differ. Score: the mean of that reward over the tuned model's images minus that"
        " over the base's, which has no such ceiling. Held-out accuracy: share of unflipped held-out pairs whose winner"
        " the tuned model prefers more than the base does. Win rate and accuracy are 1/2 for the base, the score is 0.",
        "In parentheses: 95% interval over seeds by Student's t, cut where the figure itself ends. What is compared is"
        f" paired by seed. A figure is over {wording.counted(len(grid.seeds), 'seed')} unless it says otherwise; where"
        " there is no interval, there is one seed, or all seeds agree. All cells start from one base model, and"
        " intervals say nothing of how far another one would differ.",
    ]
    missing = grid.missing(planned)
    if missing:
        found.append(
            f"**{len(missing):,} of {len(planned):,} cells have no outcome yet**: {'; '.join(wording.gaps(missing))}."
        )
    kinds = sorted({one.cpu for one in cells})
    if len(kinds) > 1:
        found.append(f"Cells ran on processors of several kinds, whose last bits differ: {wording.listed(kinds)}.")
    return found


def _linked(page: str, stem: str) -> set[str]:
    """Pictures of the sections that a page links to, and none that only its notes name."""
    gains = "|".join(measure.slug for measure in MEASURES)
    return set(re.findall(rf"\]\(({stem}-(?:gain-(?:{gains})|u-[a-z]+|ablation|cost-[0-9]+)\.svg)\)", page))


def _text(folder: Storage, name: str) -> str:
    return folder.read_bytes(name).decode() if folder.size(name) is not None else ""


def _fence(commands: Sequence[str]) -> str:
    """Backticks enough to hold the commands."""
    longest = max((len(run) for text in commands for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
