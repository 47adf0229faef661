"""Where the policy starts and what it is compared with: full models, low-rank adapters, earlier runs."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from prefopt.config import RunConfig
from prefopt.config.root import ModelConfig
from prefopt.data.ids import canonical_hash
from prefopt.data.manifest import Manifest, is_complete, read_manifest
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.models.identity import (
    EMBEDDED,
    LORA_WEIGHTS,
    MODEL_INDEX,
    digest_of_files,
    directory_digest,
    file_digest,
    is_hub_id,
    is_part_of_model,
    model_digest,
    model_directory,
    refuse_pickles,
    vae_digest,
)

LORA_BASE, PIPELINE = "lora_base", "pipeline"
"""In the train stage's summary: the digests of the full model that its adapter lies on, and of the pipeline whose UNet
it trained."""
_RUN, _TRAIN, _MODEL = "run.json", "train", "model"


@dataclass(frozen=True)
class WeightsSource:
    """Where UNet weights come from: a full model, or low-rank adapters on one."""

    name: str
    """For readers: a hub id, or the last part of a path."""
    place: str
    """A hub id, a directory, or the URI of an earlier run's model."""
    revision: str | None
    """Of a hub id."""
    digest: str
    onto: "WeightsSource | None" = None
    """The full model that the adapters belong to; None for a full model."""
    pipeline: str | None = None
    """The digest of the pipeline whose other parts a tuned UNet was written with, where a run tells it."""

    @property
    def below(self) -> "WeightsSource":
        """The full model: this one, or the one below the adapters."""
        return self.onto or self

    @property
    def as_model(self) -> ModelConfig:
        """A full model as a config names it."""
        assert self.onto is None
        return ModelConfig(path=self.place, revision=self.revision)


@dataclass(frozen=True)
class TrainingWeights:
    """The weights that a training run is made from."""

    base: WeightsSource
    init: WeightsSource
    """The policy's start."""
    reference: WeightsSource

    @property
    def reference_apart(self) -> bool:
        """Whether the reference is neither the UNet that the policy starts from nor an adapter on it: then it needs
        weights of its own also where an adapter is trained."""
        return self.reference.below.digest != self.init.below.digest

    @property
    def digests(self) -> dict[str, str]:
        """By role."""
        return {"init": self.init.digest, **self.reference_digests}

    @property
    def reference_digests(self) -> dict[str, str]:
        """What the reference's predictions depend on: its UNet, and the base model's text encoders and schedule."""
        return {"model": self.base.digest, "reference": self.reference.digest}


def training_weights(config: RunConfig) -> TrainingWeights:
    """Find the weights that `model`, `train.init_from` and `train.reference_from` name.

    An adapter belongs to the base model; the reference's may also belong to the full model that the policy starts
    from. Raises InputError for weights that are not there, are pickled, or are adapters of another model.
    """
    train, base = config.train, base_weights(config.model)
    init = find_weights(train.init_from, "train.init_from", [base]) if train.init_from else base
    if not train.reference_from:
        return TrainingWeights(base, init, base)
    reference = find_weights(train.reference_from, "train.reference_from", [base, init.below])
    return TrainingWeights(base, init, reference)


def negative_weights(config: RunConfig) -> WeightsSource | None:
    """The weights that `evaluate.negative` names, if there is one. Raises InputError as `training_weights`."""
    negative = config.evaluate.negative
    if negative is None:
        return None
    weights = training_weights(config)
    return find_weights(negative.weights_from, "evaluate.negative.weights_from", [weights.base, weights.init.below])


def snapshot_weights(config: RunConfig) -> tuple[WeightsSource, ...]:
    """The policies that `score.panel.snapshots` names, in order.

    Raises InputError as `training_weights`, and for one that is named twice or is the reference.
    """
    names = config.score.panel.snapshots if config.score.panel else ()
    if not names:
        return ()
    weights = training_weights(config)
    found: list[WeightsSource] = []
    for place, name in enumerate(names):
        field = f"score.panel.snapshots.{place}"
        source = find_weights(name, field, [weights.base, weights.init.below])
        if source.digest == weights.reference.digest:
            raise InputError(f"{field}: {name} is the reference itself, and so prefers nothing: leave it out.")
        if source.digest in {other.digest for other in found}:
            raise InputError(f"{field}: {name} holds the same weights as a snapshot before it: leave one out.")
        found.append(source)
    return tuple(found)


def compared_weights(config: RunConfig) -> dict[str, WeightsSource]:
    """The models that `evaluate.models` names, by name. Raises InputError as `training_weights`."""
    if not config.evaluate.models:
        return {}
    weights = training_weights(config)
    bases = [weights.base, weights.init.below]
    return {
        name: find_weights(place, f"evaluate.models.{name}", bases) for name, place in config.evaluate.models.items()
    }


def made_weights(train: Manifest) -> str:
    """The digest of the weights that a finished train stage made: of a full model's files, or of an adapter's."""
    files = _model_files(train)
    return files.get(LORA_WEIGHTS) or digest_of_files(
        {path: sha256 for path, sha256 in files.items() if is_part_of_model(path)}
    )


def trained_weights(train: Storage, bases: Sequence[WeightsSource], name: str, field: str) -> WeightsSource:
    """What a finished train stage made. InputError, naming the field, if it is an adapter of none of `bases`."""
    manifest = read_manifest(train)
    model = train.child(_MODEL)
    place, files = model.place(), _model_files(manifest)
    if LORA_WEIGHTS not in files:
        pipeline = manifest.summary.get(PIPELINE)
        return WeightsSource(name, place, None, made_weights(manifest), pipeline=str(pipeline) if pipeline else None)
    trained_on = manifest.summary.get(LORA_BASE)
    base = next((base for base in bases if base.digest == trained_on), None)
    if base is None:
        known = " or ".join(f"{base.name} (digest {base.digest[:12]})" for base in dict.fromkeys(bases))
        raise InputError(
            f"{field}: the adapter in {place} was trained on a model with the digest {str(trained_on)[:12]}, not on"
            f" {known}. Set model.path to the model that it was trained on."
        )
    return _adapter(name, place, files[LORA_WEIGHTS], base)


def base_weights(model: ModelConfig) -> WeightsSource:
    """The base model as a source of weights. InputError as `model_digest`."""
    name = "prefopt's embedded world" if model.path == EMBEDDED else _shown(model.path)
    return WeightsSource(name, model_directory(model), model.revision, model_digest(model))


def pipeline_digest(model: ModelConfig) -> str:
    """A digest of a whole pipeline, its VAE replaced where the config does. InputError as `model_digest`."""
    return canonical_hash({"model": model_digest(model), "vae": vae_digest(model)})


def find_weights(name: str, field: str, bases: Sequence[WeightsSource]) -> WeightsSource:
    """The weights that a field names: a hub id (owner/name or owner/name@revision), a directory, or an earlier run.

    An adapter is taken to belong to the first of `bases`, unless an earlier run says which it belongs to. Raises
    InputError, naming the field.
    """
    if name == EMBEDDED:
        return base_weights(ModelConfig(path=EMBEDDED))
    storage = Storage(name) if "://" in name or Path(name).is_dir() else None
    if storage is None:
        return _on_hub(name, field)
    if storage.size(_RUN) is not None:
        return _earlier_run(storage, field, bases)
    if not storage.local:
        raise InputError(f"{field}: {name} holds no {_RUN}: on an object store only an earlier run can be named.")
    place = Path(name)
    if (place / LORA_WEIGHTS).is_file() and not (place / MODEL_INDEX).is_file():
        return _adapter(_shown(name), name, file_digest(place / LORA_WEIGHTS), bases[0])
    if not (place / MODEL_INDEX).is_file():
        refuse_pickles(place, [place], field)
        raise InputError(
            f"{field}: {name} holds neither a model in diffusers format ({MODEL_INDEX}), nor LoRA weights"
            f" ({LORA_WEIGHTS}), nor a run ({_RUN})."
        )
    return WeightsSource(_shown(name), name, None, directory_digest(place, field))


@contextmanager
def local_directory(storage: Storage) -> Iterator[Path]:
    """A storage as a local directory: itself, or a copy for as long as the block runs."""
    if storage.local:
        yield Path(storage.path(""))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name in storage.files():
            target = Path(scratch) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(storage.read_bytes(name))
        yield Path(scratch)


def _on_hub(name: str, field: str) -> WeightsSource:
    repository, _, revision = name.partition("@")
    if not is_hub_id(repository):
        raise InputError(f"{field}: there is no directory {name}, and it is no hub id (owner/name) either.")
    digest = canonical_hash({"hub": repository, "revision": revision or None})
    return WeightsSource(name, repository, revision or None, digest)


def _earlier_run(run: Storage, field: str, bases: Sequence[WeightsSource]) -> WeightsSource:
    key = json.loads(run.read_bytes(_RUN)).get(_TRAIN)
    stage = run.child(f"{_TRAIN}/{key[:12]}") if key else run
    if not key or not is_complete(stage, key):
        raise InputError(f"{field}: the run in {run.uri} has no finished train stage. Run `prefopt train` there first.")
    return trained_weights(stage, bases, _shown(run.uri), field)


def _model_files(manifest: Manifest) -> dict[str, str]:
    prefix = f"{_MODEL}/"
    return {entry.path.removeprefix(prefix): entry.sha256 for entry in manifest.files if entry.path.startswith(prefix)}


def _adapter(name: str, place: str, sha256: str, base: WeightsSource) -> WeightsSource:
    return WeightsSource(name, place, None, canonical_hash({"lora": sha256, "onto": base.digest}), base)


def _shown(place: str) -> str:
    """A hub id as it is, any other place by its last part."""
    return place if is_hub_id(place) and not Path(place).is_dir() else PurePosixPath(place.rstrip("/")).name or place
