"""All signals of one night, corrected for their number, and what they mean for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from prefopt.config.drift import Bounds, DriftConfig
from prefopt.drift import sides, wording
from prefopt.drift.chance import Chance, Finding, Measured, Unmeasured
from prefopt.drift.means import agreement_drift, minority_drift
from prefopt.drift.people import annotator_drift
from prefopt.drift.pictures import Pictures, image_drift
from prefopt.drift.records import Counts, Drift, Signal, SignalName, Verdict
from prefopt.drift.words import prompt_drift
from prefopt.evaluation.significance import holm

SEED = 0
"""Of samples and permutations. It is not the run's: a check may not be drawn again until it comes out well."""


@dataclass(frozen=True)
class Sides:
    """What is compared."""

    train: pa.Table
    """`sides.training_pairs`."""
    compared: pa.Table
    """`sides.sampled`."""
    labels: pa.Table
    """LABELS, of all pairs."""
    scores: pa.Table
    """SCORES, of all pairs."""

    @property
    def counts(self) -> Counts:
        """Pairs of each side."""
        new, compared = (sum(table["new"].to_pylist()) for table in (self.train, self.compared))
        return Counts(
            new=new,
            known=self.train.num_rows - new,
            compared_new=compared,
            compared_known=self.compared.num_rows - compared,
        )


def without_champion(pairs: int) -> Drift:
    """Nothing to compare so many new pairs with."""
    counts = Counts(new=pairs, known=0, compared_new=0, compared_known=0)
    return Drift(known=None, counts=counts, signals=[], action="train", sentences=[wording.NO_CHAMPION])


def check(config: DriftConfig, data: Sides, pictures: Pictures, known: str) -> Drift:
    """The record of a night whose champion has seen the votes of the ingest stage with key `known`."""
    return judged(config, measured(config, data, pictures), data.counts, known)


def measured(config: DriftConfig, data: Sides, pictures: Pictures) -> dict[SignalName, Finding]:
    """What each signal finds."""
    chance = Chance(config.permutations, SEED)
    votes = sides.votes_of(data.labels, data.train)
    some = sides.votes_of(data.labels, data.compared)
    agreement, minority = sides.agreement(some, data.scores), sides.minority(some, data.scores)
    return {
        "prompts": prompt_drift(*sides.sampled_prompts(data.train, config.rows, SEED), chance),
        "images": image_drift(pictures, chance),
        "annotators": annotator_drift(sides.voters(votes, data.compared), chance),
        "agreement": agreement_drift(agreement, chance)
        if agreement
        else Unmeasured("there is neither alpha nor a panel (score.alpha, score.panel)"),
        "minority": minority_drift(minority, chance) if minority else Unmeasured("there is no panel (score.panel)"),
    }


def judged(config: DriftConfig, findings: Mapping[SignalName, Finding], counts: Counts, known: str) -> Drift:
    """Verdicts, after Holm's correction over all signals that were measured."""
    p = {name: found.p for name, found in findings.items() if isinstance(found, Measured)}
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    signals = [_signal(config, name, found, corrected.get(name, 1.0)) for name, found in findings.items()]
    return Drift(
        known=known,
        counts=counts,
        signals=signals,
        action="hold" if any(signal.verdict == "hold" for signal in signals) else "train",
        sentences=wording.summary(counts, signals),
    )


def _signal(config: DriftConfig, name: SignalName, found: Finding, corrected: float) -> Signal:
    bounds: Bounds = getattr(config, name)
    if isinstance(found, Unmeasured):
        return Signal(
            name=name,
            verdict="not_measured",
            value=None,
            p=None,
            corrected_p=None,
            warn=bounds.warn,
            hold=bounds.hold,
            known=found.known,
            new=found.new,
            sentence=wording.unmeasured(name, found),
        )
    verdict = _verdict(found.value, corrected, bounds, config.p)
    return Signal(
        name=name,
        verdict=verdict,
        value=found.value,
        p=found.p,
        corrected_p=corrected,
        warn=bounds.warn,
        hold=bounds.hold,
        known=found.known,
        new=found.new,
        figures=found.figures,
        sentence=wording.measured(name, found, corrected, bounds, verdict),
    )


def _verdict(value: float, corrected: float, bounds: Bounds, p: float) -> Verdict:
    if corrected >= p:
        return "ok"
    if bounds.hold is not None and value >= bounds.hold:
        return "hold"
    return "warn" if value >= bounds.warn else "ok"
