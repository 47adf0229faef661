"""Which model a config names, and digests of its files, without loading it or importing torch."""

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from prefopt.config.features import ClipFeatures, Dinov2Features
from prefopt.config.rewards import PLACES, RewardModel
from prefopt.config.root import ModelConfig, RunConfig
from prefopt.data.ids import canonical_hash
from prefopt.errors import InputError

EMBEDDED = "world"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
EMBEDDED_CHECKPOINT = Path(__file__).parents[1] / "world" / "checkpoint"
"""Directory of the shipped pre-trained pipeline of the embedded world."""
MODEL_INDEX = "model_index.json"
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
_WEIGHTS_AND_CONFIGS = (".safetensors", ".json", ".txt")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_PARTS_WITH_WEIGHTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def model_directory(model: ModelConfig) -> str:
    """What `from_pretrained` is given: a directory, or a hub id."""
    return str(EMBEDDED_CHECKPOINT) if model.path == EMBEDDED else model.path


def is_hub_id(name: str) -> bool:
    """Whether a name has the form owner/name."""
    return bool(_HUB_ID.fullmatch(name))


def model_digest(model: ModelConfig) -> str:
    """A digest of a model's weights and configs: of the files of a directory, of id and revision on the hub.

    Raises InputError for a directory without a model_index.json, or with pickled weights alone.
    """
    root = Path(model_directory(model))
    if root.is_dir():
        return directory_digest(root, "model.path")
    if not is_hub_id(model.path):
        raise InputError(f"There is no model directory {model.path}. Check model.path.")
    return canonical_hash({"hub": model.path, "revision": model.revision})


def directory_digest(root: Path, field: str) -> str:
    """The digest of a full model in a directory. InputError, naming the field, as `model_digest`."""
    if not (root / MODEL_INDEX).is_file():
        refuse_pickles(root, [root], field)
        raise InputError(f"{field}: {root} holds no {MODEL_INDEX}: it is not a model in diffusers format.")
    refuse_pickles(root, [root / part for part in _PARTS_WITH_WEIGHTS], field)
    return files_digest(root)


def vae_digest(model: ModelConfig) -> str:
    """A digest of the VAE that encodes and decodes: the model's own, or the one in its place. InputError if it is
    not there."""
    if model.vae is None:
        root = Path(model_directory(model)) / "vae"
        return files_digest(root) if root.is_dir() else canonical_hash({"vae_of": model_digest(model)})
    root = Path(model.vae)
    if root.is_dir():
        refuse_pickles(root, [root], "model.vae")
        return files_digest(root)
    if not is_hub_id(model.vae):
        raise InputError(f"There is no directory {model.vae}. Check model.vae.")
    return canonical_hash({"hub": model.vae})


def refuse_pickles(root: Path, parts: Iterable[Path], field: str) -> None:
    """Raise InputError if the weights of some part of a model are pickled and nothing else."""
    for part in parts:
        names = [path.name for path in part.iterdir()] if part.is_dir() else []
        pickled = sorted(name for name in names if name.endswith(_PICKLES))
        if pickled and not any(name.endswith(".safetensors") for name in names):
            raise InputError(
                f"{field}: {part / pickled[0]} is pickled, and loading a pickle can run code: only safetensors are"
                " read. Where you trust the file, convert it once, with diffusers:"
                f' DiffusionPipeline.from_pretrained("{root}", use_safetensors=False).save_pretrained("NEW"), or'
                f" StableDiffusionPipeline.from_single_file(...) for a single .ckpt; then name NEW in {field}."
            )


def files_digest(root: Path) -> str:
    """A digest of the weights and configs below a directory, by relative path."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return digest_of_files({name: file_digest(path) for name, path in files.items() if is_part_of_model(name)})


def digest_of_files(digests: dict[str, str]) -> str:
    """The digest of a model from those of its files, by relative path."""
    return canonical_hash(digests)


def is_part_of_model(name: str) -> bool:
    """Whether a file holds weights or a config, and not words about them."""
    return name.endswith(_WEIGHTS_AND_CONFIGS)


def file_digest(path: Path) -> str:
    """The sha256 of a file, remembered for as long as its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def with_absolute_places(config: RunConfig) -> RunConfig:
    """The same config, its directories of models named so that a process in another directory finds them."""
    model, train, rewards, score = config.model, config.train, config.rewards, config.score
    evaluate, features = config.evaluate, config.evaluate.features
    if isinstance(features, ClipFeatures | Dinov2Features):
        features = features.model_copy(update={"weights": _absolute(features.weights)})
        evaluate = evaluate.model_copy(update={"features": features})
    if score.panel:
        snapshots = tuple(str(_absolute(place)) for place in score.panel.snapshots)
        score = score.model_copy(update={"panel": score.panel.model_copy(update={"snapshots": snapshots})})
    if evaluate.negative:
        negative = {"weights_from": _absolute(evaluate.negative.weights_from)}
        evaluate = evaluate.model_copy(update={"negative": evaluate.negative.model_copy(update=negative)})
    return config.model_copy(
        update={
            "score": score,
            "evaluate": evaluate.model_copy(
                update={"models": {name: str(_absolute(place)) for name, place in evaluate.models.items()}}
            ),
            "rewards": rewards.model_copy(
                update={"models": {name: _at_absolute_places(reward) for name, reward in rewards.models.items()}}
            ),
            "model": model.model_copy(update={name: _absolute(getattr(model, name)) for name in ("path", "vae")}),
            "train": train.model_copy(
                update={name: _absolute(getattr(train, name)) for name in ("init_from", "reference_from")}
            ),
        }
    )


def _at_absolute_places(reward: RewardModel) -> RewardModel:
    return reward.model_copy(
        update={role: _absolute(getattr(reward, role)) for role in PLACES if hasattr(reward, role)}
    )


def _absolute(place: str | None) -> str | None:
    return str(Path(place).absolute()) if place and place != EMBEDDED and Path(place).is_dir() else place
