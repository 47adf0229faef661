"""Models that were trained on data which is to be forgotten: a delete does not make a model forget."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.compute as pc

from prefopt.models.sources import made_weights
from prefopt.registry import Record
from prefopt.retention.gone import Gone
from prefopt.retention.runs import FinishedStage, Run

VISITS = "forgotten_visits"
"""In a train stage's summary: how many of its visits are forgotten by now."""


@dataclass
class Model:
    """A model that has seen some of the data, or was started from one that has."""

    run: str
    train: str
    """The train stage's key."""
    digest: str
    visits: int | None
    """How many of its visits were of the data; None for one that was only started from, or compared with, another, or
    where the tables are gone that would tell."""
    after: list[str] = field(default_factory=list)
    """Runs of models in this list that its config names."""
    records: list[str] = field(default_factory=list)
    """Numbers and actions of the registry's records that name it."""

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def trained_models(runs: Sequence[Run], gone: Mapping[str, Gone], history: Sequence[Record]) -> list[Model]:
    """Models of these runs, by what each run's `gone` says, and models made from them."""
    found: dict[tuple[str, str], Model] = {}
    touched: dict[str, str] = {}
    for run in runs:
        for train in run.of("train"):
            visits = forgotten_visits(run, train, gone[run.place])
            if visits != 0:
                _add(found, run, train, visits, [])
                touched[run.place] = run.name
    grown = True
    while grown:
        grown = False
        for run in runs:
            after = sorted({touched[name] for name in run.named_models() & touched.keys()} - {run.name})
            for train in run.of("train") if after else ():
                known = found.get((run.place, train.manifest.key))
                if known is None:
                    _add(found, run, train, None, after)
                    touched[run.place] = run.name
                    grown = True
                else:
                    known.after = after
    for model in found.values():
        named = [
            one for one in history if one.model and (one.model.train, one.model.digest) == (model.train, model.digest)
        ]
        model.records = [f"{one.number} {one.action}" for one in named]
    return list(found.values())


def forgotten_visits(run: Run, train: FinishedStage, gone: Gone) -> int | None:
    """How many of a model's visits are gone after this, earlier calls included; None where the plan is not there."""
    key = train.manifest.parents.get("score", "")
    place = f"score/{key[:12]}"
    earlier = train.manifest.summary.get(VISITS)
    known = earlier if isinstance(earlier, int) else 0
    if place not in run.stages or not run.is_finished(place):
        return known or (None if gone.found else 0)
    visits = run.stage(place).table("visits-", ["pair_id", "vote_id"])
    hits = 0 if visits is None else pc.sum(gone.rows(visits)).as_py() or 0
    left = 0 if visits is None else visits.num_rows - hits
    return int(train.manifest.rows.out - left) if hits else known


def _add(
    found: dict[tuple[str, str], Model], run: Run, train: FinishedStage, visits: int | None, after: list[str]
) -> None:
    key = train.manifest.key
    found[run.place, key] = Model(run.name, key, made_weights(train.manifest), visits, after)
