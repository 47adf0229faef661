"""Fill the stores of rewards and latents for a set of pairs, paying only for what no earlier run has left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from prefopt.config import RunConfig
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.ids import digest
from prefopt.data.schema import IMAGES
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.distributed.denoising import MeasureDraws, draws_file
from prefopt.distributed.inversions import InvertVisits
from prefopt.distributed.references import MeasureReferences
from prefopt.distributed.score import ScoreImages
from prefopt.distributed.stores import (
    draw_store,
    inverted_store,
    latent_store,
    read_errors,
    reference_keys,
    reference_store,
    reward_key,
    reward_store,
    with_reference_errors,
)
from prefopt.distributed.units import Progress, Unit, run_units
from prefopt.models.sources import WeightsSource
from prefopt.rewards import reward_spec

_WORK_SCHEMA = IMAGES.append(pa.field("prompts", pa.list_(pa.string()))).append(pa.field("flips", pa.list_(pa.bool_())))
_Worker = partial[ScoreImages] | partial[InvertVisits] | partial[MeasureReferences] | partial[MeasureDraws]
_READING_ORDER = [(name, "ascending") for name in ("source", "file", "row", "column")]


def scored_images(pairs: pa.Table) -> list[tuple[str, str]]:
    """Every (image, prompt) of the pairs: all of image_0, then all of image_1."""
    prompts = pairs["prompt"].to_pylist()
    return [
        (image, prompt)
        for column in ("image_0", "image_1")
        for image, prompt in zip(pairs[column].to_pylist(), prompts, strict=True)
    ]


@dataclass(frozen=True)
class CostlyRows:
    """The stores of a run's rewards, latents and inverted latents."""

    config: RunConfig
    sources: tuple[SourceConfig, ...]
    store: Storage
    work: Storage
    """Scratch of the stage that asks."""
    progress: Progress

    def fill_images(
        self,
        images: pa.Table,
        pairs: pa.Table,
        rewards: tuple[str, ...],
        latents: Mapping[str, tuple[str, bool]],
    ) -> None:
        """Score the pairs' images with these rewards, and encode latents (store key to (image, mirrored))."""
        todo, concerned = self._image_work(images, pairs, rewards, latents)
        if todo.num_rows:
            self.work.write_table("images.parquet", todo)
            units = _row_units(todo.num_rows, self.config.score.unit_images, todo["image_id"].to_pylist())
            specs = [reward_spec(name, self.config) for name in concerned]
            self._run(units, partial(ScoreImages, self.config, self.sources, self.store, self.work, specs), "images")

    def fill_inversions(self, pairs: pa.Table, visits: pa.Table) -> None:
        """Invert the visits' latents; the latents themselves must be there."""
        store = inverted_store(self.store, self.config)
        worker = partial(InvertVisits, self.config, self.store, self.work)
        self._fill_visits(store, visits["inverted_key"].to_pylist(), pairs, visits, "inversions.parquet", worker)

    def reference_errors(self, pairs: pa.Table, visits: pa.Table) -> pa.Table:
        """The visits with the reference's errors; their latents, inverted where configured, must be there."""
        store = reference_store(self.store, self.config)
        keys = reference_keys(visits)
        worker = partial(MeasureReferences, self.config, self.store, self.work)
        self._fill_visits(store, keys, pairs, visits, "references.parquet", worker)
        return with_reference_errors(visits, store)

    def draw_errors(self, pairs: pa.Table, draws: pa.Table, weights: Sequence[WeightsSource]) -> dict[str, np.ndarray]:
        """Errors [rows, 2] of both images of every draw under each UNet, by its digest; the latents must be there."""
        keys = reference_keys(draws)
        sources = {source.digest: source for source in weights}
        stores = {name: draw_store(self.store, self.config, name) for name in sources}
        units = []
        for name, store in stores.items():
            todo = self._missing_visits(store, keys, pairs, draws, draws_file(name))
            units += _row_units(len(todo), self._unit_visits, todo, weights=name)
        if units:
            worker = partial(MeasureDraws, self.config, self.store, self.work, sources)
            self._run(units, worker, "snapshots")
        return {name: read_errors(store, keys) for name, store in stores.items()}

    @property
    def _unit_visits(self) -> int:
        return 4 * self.config.score.visits.batch

    def _fill_visits(
        self, store: RowStore, keys: list[str], pairs: pa.Table, visits: pa.Table, work: str, worker: _Worker
    ) -> None:
        todo = self._missing_visits(store, keys, pairs, visits, work)
        if todo:
            self._run(_row_units(len(todo), self._unit_visits, todo), worker, work.removesuffix(".parquet"))

    def _missing_visits(
        self, store: RowStore, keys: list[str], pairs: pa.Table, visits: pa.Table, work: str
    ) -> list[str]:
        """Write the visits whose rows a store lacks, with their prompts, for workers to read; returns their keys."""
        store.refresh()
        missing = set(store.missing(keys))
        if missing:
            prompts = dict(zip(pairs["pair_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True))
            todo = visits.filter(pa.array([key in missing for key in keys]))
            todo = todo.append_column("prompt", pa.array([prompts[pair] for pair in todo["pair_id"].to_pylist()]))
            self.work.write_table(work, todo)
        return [key for key in keys if key in missing]

    def reward_scores(self, pairs: pa.Table, rewards: tuple[str, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """float32 scores of image_0 and of image_1 of every pair, by reward. InputError if one is missing."""
        keys = [reward_key(image, prompt) for image, prompt in scored_images(pairs)]
        scores = {}
        for name in rewards:
            store = self._reward_store(name)
            store.refresh()
            column = store.get(keys, ["score"])["score"].to_numpy()
            scores[name] = (column[: pairs.num_rows], column[pairs.num_rows :])
        return scores

    def _reward_store(self, name: str) -> RowStore:
        return reward_store(self.store, reward_spec(name, self.config), self.config.score.batch)

    def _run(self, units: list[Unit], worker: _Worker, what: str) -> None:
        receipts = self.work.child(f"receipts/{what}")
        receipts.delete("")
        run_units(
            units,
            worker,
            receipts=receipts,
            cluster=self.config.cluster,
            progress=self.progress,
            what=what,
            actors=True,
        )

    def _image_work(
        self,
        images: pa.Table,
        pairs: pa.Table,
        rewards: tuple[str, ...],
        latents: Mapping[str, tuple[str, bool]],
    ) -> tuple[pa.Table, list[str]]:
        """Images with the prompts and mirrorings still to do, in reading order; and the rewards concerned."""
        prompts, concerned = self._unscored(pairs, rewards)
        flips: dict[str, list[bool]] = {}
        for key in sorted(_missing(latent_store(self.store, self.config), latents)):
            image, flip = latents[key]
            flips.setdefault(image, []).append(flip)
        rows = [
            {**row, "prompts": prompts.get(row["image_id"], []), "flips": flips.get(row["image_id"], [])}
            for row in images.to_pylist()
            if row["image_id"] in prompts or row["image_id"] in flips
        ]
        return pa.Table.from_pylist(rows, schema=_WORK_SCHEMA).sort_by(_READING_ORDER), concerned

    def _unscored(self, pairs: pa.Table, rewards: tuple[str, ...]) -> tuple[dict[str, list[str]], list[str]]:
        scored = {reward_key(image, prompt): (image, prompt) for image, prompt in scored_images(pairs)}
        missing = {name: _missing(self._reward_store(name), scored) for name in rewards}
        lacking = set().union(*missing.values())
        prompts: dict[str, list[str]] = {}
        for key, (image, prompt) in scored.items():
            if key in lacking:
                prompts.setdefault(image, []).append(prompt)
        return prompts, [name for name in rewards if missing[name]]


def _missing(store: RowStore, keys: Mapping[str, object]) -> set[str]:
    store.refresh()
    return set(store.missing(keys))


def _row_units(rows: int, size: int, keys: list[str], **shared: str) -> list[Unit]:
    """Row ranges, named by what they hold and share: a resumed run plans only what is missing."""
    return [
        Unit(
            digest(*shared.values(), *keys[start : start + size]),
            {"start": start, "count": min(size, rows - start), **shared},
        )
        for start in range(0, rows, size)
    ]
