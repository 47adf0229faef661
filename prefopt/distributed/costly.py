"""Fill the stores of rewards and latents for a set of pairs, paying only for what no earlier run has left."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.ids import digest
from prefopt.data.keys import reference_keys, reward_key
from prefopt.data.schema import IMAGES
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.data.visits import bucket_rows, latent_key
from prefopt.distributed.denoising import MeasureDraws, draws_file
from prefopt.distributed.inversions import InvertVisits
from prefopt.distributed.references import MeasureReferences
from prefopt.distributed.score import ScoreImages
from prefopt.distributed.stores import (
    draw_stores,
    inverted_stores,
    latent_stores,
    read_errors,
    reference_stores,
    reward_store,
    with_reference_errors,
)
from prefopt.distributed.units import Progress, Unit, run_units
from prefopt.models.sources import WeightsSource
from prefopt.rewards import reward_spec

_LATENT = pa.struct([("size", pa.list_(pa.int32(), 2)), ("flip", pa.bool_())])
_WORK_SCHEMA = IMAGES.append(pa.field("prompts", pa.list_(pa.string()))).append(pa.field("latents", pa.list_(_LATENT)))
_Worker = partial[ScoreImages] | partial[InvertVisits] | partial[MeasureReferences] | partial[MeasureDraws]
_UNIT_BATCHES = 8
"""Of a work unit of visits: enough for the batches of a unit to hold visits that cost about the same."""
_ROWS = 4096
"""Rows that are Python objects at a time, and of a row group: workers read those that hold their unit's rows."""
_READING_ORDER = [(name, "ascending") for name in ("source", "file", "row", "column")]


class Latent(NamedTuple):
    """An image's latent: at which size, and whether mirrored."""

    size: Size
    image: str
    flip: bool


def scored_images(pairs: pa.Table) -> Iterator[tuple[str, str]]:
    """Every (image, prompt) of the pairs: all of image_0, then all of image_1."""
    for part in _scored_parts(pairs):
        yield from part


def _scored_parts(pairs: pa.Table) -> Iterator[list[tuple[str, str]]]:
    for name in ("image_0", "image_1"):
        for part in pairs.select([name, "prompt"]).to_batches(max_chunksize=_ROWS):
            yield list(zip(part[name].to_pylist(), part["prompt"].to_pylist(), strict=True))


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
        latents: Collection[Latent],
    ) -> None:
        """Score the pairs' images with these rewards, and encode latents."""
        todo, concerned = self._image_work(images, pairs, rewards, latents)
        if todo.num_rows:
            self.work.write_table("images.parquet", todo, row_group_size=_ROWS)
            units = _row_units(todo.num_rows, self.config.score.unit_images, todo["image_id"].to_pylist())
            specs = [reward_spec(name, self.config) for name in concerned]
            self._run(units, partial(ScoreImages, self.config, self.sources, self.store, self.work, specs), "images")

    def fill_inversions(self, pairs: pa.Table, visits: pa.Table) -> None:
        """Invert the visits' latents; the latents themselves must be there."""
        stores = inverted_stores(self.store, self.config)
        worker = partial(InvertVisits, self.config, self.store, self.work)
        self._fill_visits(stores, visits["inverted_key"].to_pylist(), pairs, visits, "inversions.parquet", worker)

    def reference_errors(self, pairs: pa.Table, visits: pa.Table) -> pa.Table:
        """The visits with the reference's errors; their latents, inverted where configured, must be there."""
        stores = reference_stores(self.store, self.config)
        keys = reference_keys(visits)
        worker = partial(MeasureReferences, self.config, self.store, self.work)
        self._fill_visits(stores, keys, pairs, visits, "references.parquet", worker)
        return with_reference_errors(visits, stores, keys)

    def draw_errors(self, pairs: pa.Table, draws: pa.Table, weights: Sequence[WeightsSource]) -> dict[str, np.ndarray]:
        """Errors [rows, 2] of both images of every draw under each UNet, by its digest; the latents must be there."""
        keys = reference_keys(draws)
        sources = {source.digest: source for source in weights}
        stores = {name: draw_stores(self.store, self.config, name) for name in sources}
        units = []
        for name, of_weights in stores.items():
            todo = self._missing_visits(of_weights, keys, pairs, draws, draws_file(name))
            units += _row_units(len(todo), self._unit_visits, todo, weights=name)
        if units:
            worker = partial(MeasureDraws, self.config, self.store, self.work, sources)
            self._run(units, worker, "snapshots")
        return {name: read_errors(of_weights, draws, keys) for name, of_weights in stores.items()}

    @property
    def _unit_visits(self) -> int:
        return _UNIT_BATCHES * self.config.score.visits.batch

    def _fill_visits(
        self,
        stores: Mapping[Size, RowStore],
        keys: list[str],
        pairs: pa.Table,
        visits: pa.Table,
        work: str,
        worker: _Worker,
    ) -> None:
        todo = self._missing_visits(stores, keys, pairs, visits, work)
        if todo:
            self._run(_row_units(len(todo), self._unit_visits, todo), worker, work.removesuffix(".parquet"))

    def _missing_visits(
        self, stores: Mapping[Size, RowStore], keys: list[str], pairs: pa.Table, visits: pa.Table, work: str
    ) -> list[str]:
        """Write the visits whose rows the stores lack, bucket by bucket and with their prompts, for workers to read;
        returns their keys."""
        todo: list[int] = []
        for size, rows in bucket_rows(visits).items():
            missing = _missing(stores[size], [keys[row] for row in rows])
            todo += [row for row in rows if keys[row] in missing]
        if todo:
            chosen = visits.take(todo)
            places = pc.index_in(chosen["pair_id"], pairs["pair_id"].combine_chunks())
            texts = pairs["prompt"].take(places)
            self.work.write_table(work, chosen.append_column("prompt", texts), row_group_size=_ROWS)
        return [keys[row] for row in todo]

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
        latents: Collection[Latent],
    ) -> tuple[pa.Table, list[str]]:
        """Images with the prompts and latents still to do, in reading order; and the rewards concerned."""
        prompts, concerned = self._unscored(pairs, rewards)
        missing = self._unencoded(latents)
        concerned_images = pa.array(list(prompts.keys() | missing.keys()), pa.string())
        todo = images.filter(pc.is_in(images["image_id"], concerned_images))
        names = todo["image_id"].to_pylist()
        for column, found in (("prompts", prompts), ("latents", missing)):
            field = _WORK_SCHEMA.field(column)
            todo = todo.append_column(field, pa.array([found.get(name, []) for name in names], field.type))
        return todo.sort_by(_READING_ORDER), concerned

    def _unencoded(self, latents: Collection[Latent]) -> dict[str, list[dict[str, Any]]]:
        """Missing latents by image."""
        found: dict[str, list[dict[str, Any]]] = {}
        for size, store in latent_stores(self.store, self.config).items():
            wanted = {latent_key(latent.image, latent.flip): latent for latent in latents if latent.size == size}
            for key in sorted(_missing(store, wanted)):
                _, image, flip = wanted[key]
                found.setdefault(image, []).append({"size": size, "flip": flip})
        return found

    def _unscored(self, pairs: pa.Table, rewards: tuple[str, ...]) -> tuple[dict[str, list[str]], list[str]]:
        """Prompts under which some reward has not scored an image, by image; and the rewards concerned."""
        stores = {name: self._reward_store(name) for name in rewards}
        for store in stores.values():
            store.refresh()
        prompts: dict[str, list[str]] = {}
        concerned: set[str] = set()
        for part in _scored_parts(pairs):
            scored = {reward_key(*of): of for of in part}
            missing = {name: set(store.missing(scored)) for name, store in stores.items()}
            lacking = set().union(*missing.values())
            for image, prompt in (of for key, of in scored.items() if key in lacking):
                if prompt not in prompts.setdefault(image, []):
                    prompts[image].append(prompt)
            concerned |= {name for name in rewards if missing[name]}
        return prompts, [name for name in rewards if name in concerned]


def _missing(store: RowStore, keys: Collection[str]) -> set[str]:
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
