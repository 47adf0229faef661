"""Work units of evaluate: draw and score the images of some prompts, measure the gaps of some held-out pairs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
from PIL import Image

from prefopt.config import RunConfig
from prefopt.data.ids import digest, prompt_id
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore
from prefopt.distributed.stores import latent_stores
from prefopt.distributed.units import Unit
from prefopt.evaluation.accuracy import HeldoutGaps, HeldoutPair
from prefopt.evaluation.generation import ImageGenerator, Task, load_tuned, open_png, png_bytes, whole_unet
from prefopt.evaluation.negative import mixed_negative, with_negative
from prefopt.evaluation.results import BASE, TUNED
from prefopt.models.families import Pipeline
from prefopt.models.identity import vae_digest
from prefopt.models.loading import load_pipeline, moved
from prefopt.models.sources import TrainingWeights, WeightsSource, local_directory
from prefopt.models.unets import load_unet
from prefopt.rewards import Reward, RewardSpec, checked_scores

MODELS = (BASE, TUNED)
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
GAP_ROWS = pa.schema([("pair_id", pa.string()), ("draw", pa.int32()), ("t", pa.int32()), ("z", pa.float64())])


@dataclass(frozen=True)
class EvaluationJob:
    """What every worker of an evaluation is told."""

    config: RunConfig
    weights: TrainingWeights
    negative: WeightsSource | None
    rewards: tuple[RewardSpec, ...]
    tuned: Storage
    """The train stage's model directory."""
    output: Storage
    store: Storage


def image_units(prompts: Sequence[str], per_unit: int) -> list[Unit]:
    """A unit per model and `per_unit` prompts: all of the base's, then all of the tuned model's."""
    return [
        Unit(
            f"images-{model}-{number:05d}",
            {"kind": "images", "model": model, "number": number, "prompts": list(prompts[start : start + per_unit])},
        )
        for model in MODELS
        for number, start in enumerate(range(0, len(prompts), per_unit))
    ]


def accuracy_units(pairs: Sequence[HeldoutPair]) -> list[Unit]:
    """Held-out pairs in fixed portions."""
    return [
        Unit(
            f"accuracy-{number:05d}",
            {
                "kind": "accuracy",
                "number": number,
                "pairs": [asdict(pair) for pair in pairs[start : start + _PAIRS_PER_UNIT]],
            },
        )
        for number, start in enumerate(range(0, len(pairs), _PAIRS_PER_UNIT))
    ]


def image_store(store: Storage, config: RunConfig, model_digest: str) -> RowStore:
    """Images of one model under one sampler: a later evaluation of another tuned model finds its base's there."""
    evaluate = config.evaluate
    return RowStore(
        store,
        "generated",
        {
            "model": model_digest,
            "vae": vae_digest(config.model),
            "sampler": evaluate.sampler.model_dump(mode="json"),
            "seed": evaluate.seed,
            "batch": evaluate.batch,
            "version": GENERATION_VERSION,
        },
    )


class EvaluateUnits:
    """Does both kinds of units, so that one pool of actors serves the stage. Models are loaded when first needed."""

    def __init__(self, job: EvaluationJob) -> None:
        self._job, self._evaluate = job, job.config.evaluate
        self._rewards = [reward.load() for reward in job.rewards]

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self._draw_unit(payload) if payload["kind"] == "images" else self._accuracy_unit(payload)

    @cached_property
    def _base(self) -> Pipeline:
        return load_pipeline(self._job.config.model).to(self._job.config.cluster.device)

    @cached_property
    def _tuned(self) -> Pipeline:
        below = self._job.weights.init.below
        with local_directory(self._job.tuned) as directory:
            return load_tuned(
                self._base,
                self._job.config.model,
                directory,
                below=below if below != self._job.weights.base else None,
            )

    @cached_property
    def _guided(self) -> Pipeline:
        """The tuned model, and the negative one where it is asked for."""
        settings, negative = self._evaluate.negative, self._job.negative
        if settings is None or negative is None:
            return self._tuned
        weights, like = self._job.weights, self._tuned.unet
        with local_directory(self._job.tuned) as directory:
            tuned = whole_unet(directory, weights.init.below)
        unet = mixed_negative(
            load_unet(weights.base, weights.base),
            tuned,
            load_unet(negative, weights.base),
            positive_share=settings.positive_share,
            negative_share=settings.negative_share,
        )
        return with_negative(self._tuned, moved(unet, like.device, like.dtype), self._evaluate.sampler.guidance)

    @cached_property
    def _generators(self) -> dict[str, ImageGenerator]:
        return {}

    def _generator(self, model: str) -> ImageGenerator:
        if model not in self._generators:
            pipeline = self._base if model == BASE else self._guided
            self._generators[model] = ImageGenerator(
                pipeline, self._evaluate.sampler, batch=self._evaluate.batch, seed=self._evaluate.seed
            )
        return self._generators[model]

    def _draw_unit(self, payload: dict[str, Any]) -> dict[str, Any]:
        model, samples = payload["model"], self._evaluate.samples_per_prompt
        tasks = [(prompt, sample) for prompt in payload["prompts"] for sample in range(samples)]
        pngs = self._stored(tasks) if model == BASE else self._drawn(model, tasks)
        ids = {prompt: prompt_id(prompt) for prompt, _ in tasks}
        name = f"{model}-{payload['number']:05d}.parquet"
        rows = [
            {"prompt_id": ids[prompt], "prompt": prompt, "sample": sample, "png": png}
            for (prompt, sample), png in zip(tasks, pngs, strict=True)
        ]
        self._job.output.write_table(f"images-{name}", pa.Table.from_pylist(rows, schema=IMAGE_ROWS))
        self._job.output.write_table(f"scores-{name}", self._score_rows(tasks, ids, pngs))
        return {"images": len(tasks), "files": [f"images-{name}", f"scores-{name}"]}

    def _drawn(self, model: str, tasks: Sequence[Task]) -> list[bytes]:
        return [png_bytes(image) for image in self._generator(model).images(tasks)] if tasks else []

    def _stored(self, tasks: Sequence[Task]) -> list[bytes]:
        """The base model's images, from the store where another run has left them."""
        store = image_store(self._job.store, self._job.config, self._job.weights.base.digest)
        store.refresh()
        keyed = {digest("generated", prompt, str(sample)): (prompt, sample) for prompt, sample in tasks}
        missing = store.missing(keyed)
        if missing:
            drawn = self._drawn(BASE, [keyed[key] for key in missing])
            store.append(pa.table({"key": missing, "png": pa.array(drawn, pa.binary())}))
            store.refresh()
        pngs: list[bytes] = store.get(list(keyed), ["png"])["png"].to_pylist()
        return pngs

    def _score_rows(self, tasks: Sequence[Task], ids: dict[str, str], pngs: Sequence[bytes]) -> pa.Table:
        columns = [self._scores(reward, tasks, pngs) for reward in self._rewards]
        rows = [
            {"prompt_id": ids[prompt], "sample": sample, "reward": spec.name, "version": spec.version, "score": score}
            for spec, scores in zip(self._job.rewards, columns, strict=True)
            for (prompt, sample), score in zip(tasks, scores, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=SCORE_ROWS)

    def _scores(self, reward: Reward, tasks: Sequence[Task], pngs: Sequence[bytes]) -> list[float]:
        size, scores = self._evaluate.batch, []
        for start in range(0, len(tasks), size):
            images = [open_png(png) for png in pngs[start : start + size]]
            prompts = [prompt for prompt, _ in tasks[start : start + size]]
            scores += padded_scores(reward, images, prompts, size)
        return scores

    def _accuracy_unit(self, payload: dict[str, Any]) -> dict[str, Any]:
        pairs = [HeldoutPair(**row) for row in payload["pairs"]]
        rows = self._gaps.measure(pairs, self._evaluate.accuracy.draws)
        name = f"accuracy-{payload['number']:05d}.parquet"
        self._job.output.write_table(name, pa.Table.from_pylist(rows, schema=GAP_ROWS))
        return {"pairs": len(pairs), "files": [name]}

    @cached_property
    def _gaps(self) -> HeldoutGaps:
        latents = latent_stores(self._job.store, self._job.config)
        for store in latents.values():
            store.refresh()
        return HeldoutGaps(self._base, self._tuned, latents, batch=self._evaluate.batch, seed=self._evaluate.seed)


def padded_scores(reward: Reward, images: Sequence[Image.Image], prompts: Sequence[str], size: int) -> list[float]:
    """Scores of at most `size` images, padded to `size`. RewardError unless they are finite float32."""
    padding = size - len(images)
    names = [f"generated image {number + 1}" for number in range(size)]
    padded = [*images, *[images[-1]] * padding], [*prompts, *[prompts[-1]] * padding]
    return [float(score) for score in checked_scores(reward, *padded, names)[: len(images)]]
