"""The reference's denoising errors of planned visits: numbers computed once, so that training holds no reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prefopt.config import RunConfig
from prefopt.config.objective import DpoParams
from prefopt.data.storage import Storage
from prefopt.distributed.denoising import DenoisingErrors, append_errors
from prefopt.distributed.stores import REFERENCE_COLUMNS, Models, VisitReader, reference_stores
from prefopt.errors import InputError
from prefopt.models.sources import training_weights

CHECKED_VISITS = 64
TOLERANCE = 0.05
"""Largest root mean square of the logit's change between the stored errors and the same errors measured again."""


class ReferenceErrors(DenoisingErrors):
    """Measures the reference's errors of planned visits."""

    def __init__(self, config: RunConfig, store: Storage, device: torch.device, inverter: Models | None = None) -> None:
        """`inverter`: the models that inverted the visits, if not the reference."""
        reader = VisitReader(store, config, inverter)
        super().__init__(config, reader, device, training_weights(config).reference)


class MeasureReferences:
    """Work units of score: fill the store for some rows of references.parquet (VISITS and the prompt's text)."""

    def __init__(self, config: RunConfig, store: Storage, work: Storage) -> None:
        self._work = work
        self._stores = reference_stores(store, config)
        self._errors = ReferenceErrors(config, store, torch.device(config.cluster.device))

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        visits = self._work.read_rows("references.parquet", payload["start"], payload["count"])
        append_errors(self._stores, visits, self._errors.measure_texts(visits))
        return {"visits": visits.num_rows}


def check_references(
    config: RunConfig, store: Storage, plan: pa.Table, prompts: Sequence[str], device: torch.device
) -> float:
    """Measure the first visits of a plan again and compare; returns the root mean square of the logit's change.

    Raises InputError if it is above TOLERANCE: then the stored errors are not this reference's, or were computed on a
    device that rounds too differently.
    """
    visits = plan.slice(0, CHECKED_VISITS)
    stored = np.stack([visits[name].to_numpy() for name in REFERENCE_COLUMNS], axis=1).astype(np.float64)
    measured = ReferenceErrors(config, store, device).measure(visits, prompts).astype(np.float64)
    beta = getattr(config.train.objective, "beta", DpoParams().beta)
    change = 0.5 * beta * (np.subtract(*stored.T) - np.subtract(*measured.T))
    found = float(np.sqrt(np.mean(np.square(change))))
    if not found <= TOLERANCE:
        raise InputError(
            f"train.reference cached: measured again, the reference's errors of {visits.num_rows} visits move the logit"
            f" by {found:.3g} (root mean square; at most {TOLERANCE} is accepted). They belong to another model, or to"
            " a device that rounds differently: run score again where training runs, or set train.reference: live."
        )
    return found
