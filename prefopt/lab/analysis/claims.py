"""What the publications claim. One about two methods goes by the corrected test of the table that compares them; any
other holds where its whole interval lies on its side of the bound. One seed decides nothing, and neither do seeds that
all agree: win rates and correlations over bins have few steps."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from prefopt.config.lab_page import AnalysisConfig
from prefopt.evaluation.statistics import Estimate
from prefopt.lab.analysis.ablation import ablations
from prefopt.lab.analysis.cost import lead_at, reached
from prefopt.lab.analysis.detection import detections
from prefopt.lab.analysis.duels import against
from prefopt.lab.analysis.gain import kept_at
from prefopt.lab.grid import MEASURES, Grid
from prefopt.lab.statistics import Difference
from prefopt.stages.minority import ONLINE

Verdict = Literal["holds", "does not hold", "not decided"]
Side = Literal["at least", "at most", "above"]
Kind = Literal["share", "figure", "difference"]
ADAPTIVE, SMPO = "2503.16921", "2506.02698"
NO_CELLS = "cells are missing"


@dataclass(frozen=True)
class Claim:
    """What a publication says, with a bound of this laboratory's, and what was measured here."""

    source: str
    """arXiv id."""
    claim: str
    by: str
    """What is measured."""
    side: Side
    bound: float
    kind: Kind
    """How the figure and the bound are written."""
    measured: Estimate | None
    lacking: str = NO_CELLS
    """Why there is no figure, where there is none."""
    compares: bool = False
    """Whether it is about which of two methods is better, so that a test decides it."""
    tested: Difference | None = None
    """That test's, as the table of the two methods has it; None without cells."""

    @property
    def verdict(self) -> Verdict:
        """By the test where two methods are compared, else by the interval."""
        if self.measured is None or (self.compares and not (self.tested and self.tested.decided)):
            return "not decided"
        low, high, bound = self.measured.low, self.measured.high, self.bound
        if low is None or high is None:
            return "not decided"
        if self.side == "at most":
            low, high, bound = -high, -low, -bound
        if low > bound or (low == bound and self.side != "above"):
            return "holds"
        return "does not hold" if high < bound else "not decided"

    @property
    def why(self) -> str:
        """What keeps it from being decided; else empty."""
        if self.verdict != "not decided":
            return ""
        if self.measured is None:
            return self.lacking
        if self.measured.low is None:
            return f"all {self.measured.n} seeds equal" if self.measured.n > 1 else "one seed"
        if self.tested and self.tested.adjusted is not None:
            return f"p {self.tested.adjusted:.2g} after Holm's correction"
        return "the bound lies in the interval"


def claims(grid: Grid, asked: AnalysisConfig) -> list[Claim]:
    """All whose methods and noises have some cell, measured or not."""
    makers = (_gains, _rivals, _detection, _work, _steps)
    return [claim for make in makers for claim in make(grid, asked)]


def _gains(grid: Grid, asked: AnalysisConfig) -> Iterator[Claim]:
    bounds = asked.claims
    noise, rate = grid.flips(bounds.kept_rate), _percent(bounds.kept_rate)
    claimed: tuple[tuple[str, str, Side, float], ...] = (
        (asked.adaptive, f"keeps at least {_percent(bounds.kept)}", "at least", bounds.kept),
        (asked.reference, f"loses at least {_percent(bounds.lost)}", "at most", 1.0 - bounds.lost),
    )
    for method, does, side, bound in claimed if noise else ():
        if method not in grid.methods:
            continue
        told = f"{method} {does} of its clean gain at {rate} flips"
        for measure in MEASURES:
            cells = grid.values(method, noise, measure.of) and grid.values(method, grid.clean, measure.of)
            lacking = "its clean gain is not clearly above 0" if cells else NO_CELLS
            by = f"share of the gain in {measure.name} kept"
            yield Claim(ADAPTIVE, told, by, side, bound, "share", kept_at(grid, method, noise, measure), lacking)


def _detection(grid: Grid, asked: AnalysisConfig) -> Iterator[Claim]:
    noise, rate = grid.flips(asked.claims.auroc_rate), _percent(asked.claims.auroc_rate)
    if noise is None or asked.adaptive not in grid.methods:
        return
    found = detections(grid, [asked.adaptive])
    own = next((one for one in found if (one.source, one.noise) == (ONLINE, noise)), None)
    bound, u = asked.claims.auroc, f"the online u of {asked.adaptive}"
    for kind, doubted in (("flipped", own and own.flipped), ("minority", own and own.minority)):
        auroc, rise, without = (doubted.auroc, doubted.rise_by_seed, doubted.without) if doubted else (None, None, "")
        yield Claim(ADAPTIVE, f"{u} finds {kind} labels at {rate} flips", "AUROC", "at least", bound, "figure", auroc)
        told = f"the share of {kind} labels rises with {u} at {rate} flips"
        by, lacking = f"Spearman's correlation over bins{without}", "no seed has enough bins" if without else NO_CELLS
        yield Claim(ADAPTIVE, told, by, "above", 0.0, "figure", rise, lacking)


def _rivals(grid: Grid, asked: AnalysisConfig) -> Iterator[Claim]:
    """Where both have cells."""
    noises = [(rate, noise) for rate in asked.claims.rival_rates if (noise := grid.flips(rate))]
    others = list(dict.fromkeys((*grid.shown(asked), *asked.rivals)))
    found = {
        (measure, one.second, one.noise): one.difference
        for measure in MEASURES
        for one in against(grid, asked.adaptive, others, measure)
    }
    for rival in asked.rivals:
        for rate, noise in noises:
            told = f"{asked.adaptive} beats {rival} at {_percent(rate)} flips"
            for measure in MEASURES:
                if lead := found.get((measure, rival, noise)):
                    yield _better(ADAPTIVE, told, f"difference in {measure.name}", lead)


def _work(grid: Grid, asked: AnalysisConfig) -> Iterator[Claim]:
    if not asked.families:
        return
    first, *others = asked.families
    share = _percent(asked.claims.work)
    for family, noise in itertools.product(others, grid.noises):
        for measure in MEASURES:
            if all(one.family != family for one in reached(grid, noise, asked.families, measure)):
                continue
            lead = lead_at(grid, noise, asked.families, family, measure, asked.claims.work)
            yield Claim(
                SMPO,
                f"{family} is as good as {first} after {share} of its UNet work, {noise.title}",
                f"{measure.name} there, minus {first}'s at its end",
                "at least",
                0.0,
                "difference",
                lead.estimate if lead else None,
                f"{family} has no length of so little work",
            )


def _steps(grid: Grid, asked: AnalysisConfig) -> Iterator[Claim]:
    if not asked.ablation:
        return
    found = {measure: ablations(grid, asked.ablation, measure) for measure in MEASURES}
    for place, (before, name) in enumerate(itertools.pairwise(asked.ablation), start=1):
        for measure in MEASURES:
            tables = found[measure]
            chosen = next((one for one in tables if one.whole), tables[0] if tables else None)
            added = chosen.steps[place].added if chosen else None
            told = f"{name} is better than {before}"
            by = f"difference in {measure.name}" + (f" at {chosen.noise.name}" if chosen else "")
            yield _better(SMPO, told, by, added)


def _better(source: str, told: str, by: str, found: Difference | None) -> Claim:
    measured = found.estimate if found else None
    return Claim(source, told, by, "above", 0.0, "difference", measured, compares=True, tested=found)


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g}%"
