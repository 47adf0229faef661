"""Work units of evaluate: draw and score the images of some prompts, measure the gaps of some held-out pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.data.ids import prompt_id
from prefopt.data.keys import GENERATED, generated_key
from prefopt.data.storage import Storage
from prefopt.data.store import LatentStore, RowStore
from prefopt.distributed.stores import latent_stores
from prefopt.distributed.units import Unit
from prefopt.errors import InputError
from prefopt.evaluation.accuracy import HeldoutGaps, HeldoutPair
from prefopt.evaluation.generation import ImageGenerator, Task, open_png, png_bytes, with_weights
from prefopt.evaluation.negative import mixed_negative, with_negative
from prefopt.evaluation.units import unit_file, unit_starts
from prefopt.features import EmbedderSpec, embedded
from prefopt.models.families import Pipeline
from prefopt.models.identity import is_hub_id, model_directory
from prefopt.models.loading import load_pipeline, moved
from prefopt.models.sources import WeightsSource, pipeline_digest
from prefopt.models.unets import load_unet
from prefopt.rewards import Reward, RewardSpec, checked_scores

GENERATION_VERSION = 1
_PAIRS_PER_UNIT = 128

PROMPT_ROWS = pa.schema([(name, pa.string()) for name in ("prompt_id", "prompt", "set", "category", "challenge")])
"""One row per prompt of each set, in the set's own order; a prompt of two sets has two."""
IMAGE_ROWS = pa.schema(
    [("prompt_id", pa.string()), ("prompt", pa.string()), ("sample", pa.int32()), ("png", pa.binary())]
)
SCORE_ROWS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("sample", pa.int32()),
        ("reward", pa.string()),
        ("version", pa.string()),
        ("score", pa.float32()),
    ]
)
FEATURE_ROWS = pa.schema([("prompt_id", pa.string()), ("sample", pa.int32()), ("feature", pa.list_(pa.float32()))])
GAP_ROWS = pa.schema([("pair_id", pa.string()), ("draw", pa.int32()), ("t", pa.int32()), ("z", pa.float64())])


@dataclass(frozen=True)
class ComparedModel:
    """A model that draws."""

    name: str
    weights: WeightsSource
    parts: ModelConfig
    """The pipeline that its text encoders, its VAE and its noise schedule are of."""
    pipeline: str
    """The digest of that pipeline."""
    negative: WeightsSource | None = None
    """The model that takes guidance's unconditional branch; None for the usual one."""

    @classmethod
    def onto(
        cls, name: str, weights: WeightsSource, base: ModelConfig, negative: WeightsSource | None = None
    ) -> "ComparedModel":
        """A UNet or adapter in the base's pipeline."""
        return cls(name, weights, base, pipeline_digest(base), negative)

    @classmethod
    def of(cls, name: str, weights: WeightsSource, base: ModelConfig) -> "ComparedModel":
        """A full model brings its own text encoders and VAE, unless a run tuned it from the base; adapters lie on the
        base. InputError for a full model on an object store that does not share the base's parts."""
        made = cls.onto(name, weights, base)
        if weights.onto is not None or weights.pipeline == made.pipeline:
            return made
        if "://" in weights.place:
            raise InputError(
                f"evaluate.models.{name}: {weights.place} is a full model that was not tuned from the base"
                f" {base.path}, and such a model can only be read from a local directory: copy it to one."
            )
        return cls(name, weights, weights.as_model, pipeline_digest(weights.as_model))

    @property
    def identity(self) -> dict[str, str | None]:
        """What its images depend on, by digest."""
        return {
            "model": self.weights.digest,
            "pipeline": self.pipeline,
            "negative": self.negative.digest if self.negative else None,
        }

    @property
    def pinned(self) -> bool:
        """Whether the digests mean weights that cannot change: a hub id without a revision means the newest."""
        sources = [self.weights, self.weights.onto, self.negative, self.negative and self.negative.onto]
        places = [(source.place, source.revision) for source in sources if source]
        places.append((model_directory(self.parts), self.parts.revision))
        return not any(revision is None and is_hub_id(place) and not Path(place).is_dir() for place, revision in places)


@dataclass(frozen=True)
class EvaluationJob:
    """What every worker of an evaluation is told."""

    config: RunConfig
    models: tuple[ComparedModel, ...]
    """The base first."""
    rewards: tuple[RewardSpec, ...]
    features: EmbedderSpec | None
    output: Storage
    store: Storage

    @property
    def base(self) -> ComparedModel:
        """The one that all others are compared with."""
        return self.models[0]


def image_units(models: Sequence[str], prompts: Sequence[str], per_unit: int) -> list[Unit]:
    """A unit per model and `per_unit` prompts, model by model."""
    return [
        Unit(
            f"images-{model}-{number:05d}",
            {"kind": "images", "model": model, "number": number, "prompts": list(prompts[start : start + per_unit])},
        )
        for model in models
        for number, start in enumerate(unit_starts(len(prompts), per_unit))
    ]


def accuracy_units(pairs: Sequence[HeldoutPair], models: Sequence[str]) -> list[Unit]:
    """Held-out pairs in fixed portions, model by model."""
    return [
        Unit(
            f"accuracy-{model}-{number:05d}",
            {
                "kind": "accuracy",
                "model": model,
                "number": number,
                "pairs": [asdict(pair) for pair in pairs[start : start + _PAIRS_PER_UNIT]],
            },
        )
        for model in models
        for number, start in enumerate(range(0, len(pairs), _PAIRS_PER_UNIT))
    ]


def image_store(store: Storage, config: RunConfig, model: ComparedModel) -> RowStore:
    """Images of one model under one sampler: what any evaluation has drawn, no later one draws again."""
    evaluate = config.evaluate
    negative = evaluate.negative if model.negative else None
    return RowStore(
        store,
        GENERATED,
        {
            **model.identity,
            "negative_shares": negative.model_dump(mode="json", exclude={"weights_from"}) if negative else None,
            "sampler": evaluate.sampler.model_dump(mode="json"),
            "seed": evaluate.seed,
            "batch": evaluate.batch,
            "version": GENERATION_VERSION,
        },
    )


@dataclass(frozen=True)
class _Loaded:
    """A model in memory."""

    name: str
    pipeline: Pipeline
    generator: ImageGenerator


class EvaluateUnits:
    """Does both kinds of units, so that one pool of actors serves the stage. Models are loaded when first needed: the
    base stays, of the others the last one does."""

    def __init__(self, job: EvaluationJob) -> None:
        self._job, self._evaluate = job, job.config.evaluate
        self._rewards = [reward.load() for reward in job.rewards]
        self._embedder = job.features.load() if job.features else None
        self._models = {model.name: model for model in job.models}
        self._stores: dict[str, RowStore] = {}
        self._last: _Loaded | None = None

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self._draw_unit(payload) if payload["kind"] == "images" else self._accuracy_unit(payload)

    @cached_property
    def _base(self) -> _Loaded:
        base = self._job.base
        return self._loaded(base, load_pipeline(base.parts).to(self._job.config.cluster.device))

    def _model(self, name: str) -> _Loaded:
        if name == self._job.base.name:
            return self._base
        if self._last is None or self._last.name != name:
            self._last = None  # its memory is free before the next one is loaded
            model = self._models[name]
            self._last = self._loaded(model, self._load(model))
        return self._last

    def _load(self, model: ComparedModel) -> Pipeline:
        base = self._job.base
        if model.parts != base.parts:
            return load_pipeline(model.parts).to(self._job.config.cluster.device)
        return with_weights(self._base.pipeline, base.parts, model.weights, base.weights)

    def _loaded(self, model: ComparedModel, pipeline: Pipeline) -> _Loaded:
        drawing = self._guided(model, pipeline) if model.negative else pipeline
        evaluate = self._evaluate
        generator = ImageGenerator(drawing, evaluate.sampler, batch=evaluate.batch, seed=evaluate.seed)
        return _Loaded(model.name, pipeline, generator)

    def _guided(self, model: ComparedModel, pipeline: Pipeline) -> Pipeline:
        settings, base, like = self._evaluate.negative, self._job.base.weights, pipeline.unet
        assert settings is not None
        assert model.negative is not None
        unet = mixed_negative(
            load_unet(base, base),
            load_unet(model.weights, base),
            load_unet(model.negative, base),
            positive_share=settings.positive_share,
            negative_share=settings.negative_share,
        )
        return with_negative(pipeline, moved(unet, like.device, like.dtype), self._evaluate.sampler.guidance)

    def _draw_unit(self, payload: dict[str, Any]) -> dict[str, Any]:
        model, number, samples = payload["model"], payload["number"], self._evaluate.samples_per_prompt
        tasks = [(prompt, sample) for prompt in payload["prompts"] for sample in range(samples)]
        pngs = self._stored(model, tasks)
        ids = {prompt: prompt_id(prompt) for prompt, _ in tasks}
        rows = [
            {"prompt_id": ids[prompt], "prompt": prompt, "sample": sample, "png": png}
            for (prompt, sample), png in zip(tasks, pngs, strict=True)
        ]
        files = [unit_file("images", model, number)]
        self._job.output.write_table(files[0], pa.Table.from_pylist(rows, schema=IMAGE_ROWS))
        scores, features = self._measured(tasks, pngs)
        tables = {"scores": self._score_rows(tasks, ids, scores)}
        if self._embedder is not None:
            tables["features"] = _feature_rows(tasks, ids, features)
        for kind, table in tables.items():
            files.append(unit_file(kind, model, number))
            self._job.output.write_table(files[-1], table)
        return {"images": len(tasks), "files": files}

    def _drawn(self, name: str, tasks: Sequence[Task]) -> list[bytes]:
        return [png_bytes(image) for image in self._model(name).generator.images(tasks)]

    def _stored(self, name: str, tasks: Sequence[Task]) -> list[bytes]:
        """A model's images, from the store where another evaluation has left them."""
        if not self._models[name].pinned:
            return self._drawn(name, tasks)
        if name not in self._stores:
            self._stores[name] = image_store(self._job.store, self._job.config, self._models[name])
        store = self._stores[name]
        store.refresh()
        keyed = {generated_key(prompt, sample): (prompt, sample) for prompt, sample in tasks}
        missing = store.missing(keyed)
        if missing:
            drawn = self._drawn(name, [keyed[key] for key in missing])
            of = [prompt_id(keyed[key][0]) for key in missing]
            store.append(pa.table({"key": missing, "prompt_id": of, "png": pa.array(drawn, pa.binary())}))
            store.refresh()
        pngs: list[bytes] = store.get(list(keyed), ["png"])["png"].to_pylist()
        return pngs

    def _measured(self, tasks: Sequence[Task], pngs: Sequence[bytes]) -> tuple[list[list[float]], list[np.ndarray]]:
        """Scores of all images by reward, in the job's order, and their features, if any."""
        scores: list[list[float]] = [[] for _ in self._rewards]
        features: list[np.ndarray] = []
        size = self._evaluate.batch
        for start in range(0, len(tasks), size):
            prompts = [prompt for prompt, _ in tasks[start : start + size]]
            found, rows = self._measured_batch(prompts, pngs[start : start + size])
            for column, more in zip(scores, found, strict=True):
                column += more
            features += rows
        return scores, features

    def _measured_batch(
        self, prompts: Sequence[str], pngs: Sequence[bytes]
    ) -> tuple[list[list[float]], list[np.ndarray]]:
        """The images of one batch, opened once; they are gone before the next batch is opened."""
        size, images = self._evaluate.batch, [open_png(png) for png in pngs]
        scores = [padded_scores(reward, images, prompts, size) for reward in self._rewards]
        return scores, list(embedded(self._embedder, images, size)) if self._embedder is not None else []

    def _score_rows(self, tasks: Sequence[Task], ids: dict[str, str], columns: Sequence[Sequence[float]]) -> pa.Table:
        rows = [
            {"prompt_id": ids[prompt], "sample": sample, "reward": spec.name, "version": spec.version, "score": score}
            for spec, scores in zip(self._job.rewards, columns, strict=True)
            for (prompt, sample), score in zip(tasks, scores, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=SCORE_ROWS)

    def _accuracy_unit(self, payload: dict[str, Any]) -> dict[str, Any]:
        pairs = [HeldoutPair(**row) for row in payload["pairs"]]
        base, tuned = self._base.pipeline, self._model(payload["model"]).pipeline
        evaluate, how = self._evaluate, self._evaluate.accuracy
        gaps = HeldoutGaps(
            base,
            tuned,
            self._latents,
            batch=evaluate.batch,
            seed=evaluate.seed,
            timestep_range=how.timestep_range,
        )
        rows = gaps.measure(pairs, how.draws)
        name = f"accuracy-{payload['model']}-{payload['number']:05d}.parquet"
        self._job.output.write_table(name, pa.Table.from_pylist(rows, schema=GAP_ROWS))
        return {"pairs": len(pairs), "files": [name]}

    @cached_property
    def _latents(self) -> Mapping[Size, LatentStore]:
        stores = latent_stores(self._job.store, self._job.config)
        for store in stores.values():
            store.refresh()
        return stores


def _feature_rows(tasks: Sequence[Task], ids: dict[str, str], features: Sequence[np.ndarray]) -> pa.Table:
    rows = [
        {"prompt_id": ids[prompt], "sample": sample, "feature": feature}
        for (prompt, sample), feature in zip(tasks, features, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=FEATURE_ROWS)


def padded_scores(reward: Reward, images: Sequence[Image.Image], prompts: Sequence[str], size: int) -> list[float]:
    """Scores of at most `size` images, padded to `size`. RewardError unless they are finite float32."""
    padding = size - len(images)
    names = [f"generated image {number + 1}" for number in range(size)]
    padded = [*images, *[images[-1]] * padding], [*prompts, *[prompts[-1]] * padding]
    return [float(score) for score in checked_scores(reward, *padded, names)[: len(images)]]
