"""Which model a config names, and its digest, without loading it or importing torch."""

import functools
import hashlib
import re
from pathlib import Path

from prefopt.config.root import ModelConfig
from prefopt.data.ids import canonical_hash
from prefopt.errors import InputError

EMBEDDED = "world"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
EMBEDDED_CHECKPOINT = Path(__file__).parents[1] / "world" / "checkpoint"
"""Directory of the shipped pre-trained pipeline of the embedded world."""
_WEIGHTS_AND_CONFIGS = (".safetensors", ".json", ".txt")


def model_directory(model: ModelConfig) -> str:
    """What `from_pretrained` is given: a directory, or a hub id."""
    return str(EMBEDDED_CHECKPOINT) if model.path == EMBEDDED else model.path


def model_digest(model: ModelConfig) -> str:
    """A digest of a model's weights and configs: of the files of a directory, of id and revision on the hub.

    Raises InputError for a directory without a model_index.json.
    """
    root = Path(model_directory(model))
    if not root.is_dir():
        if not _HUB_ID.fullmatch(model.path):
            raise InputError(f"There is no model directory {model.path}. Check model.path.")
        return canonical_hash({"hub": model.path, "revision": model.revision})
    if not (root / "model_index.json").is_file():
        raise InputError(f"{model.path} holds no model_index.json: it is not a model in diffusers format.")
    files = sorted(p for p in root.rglob("*") if p.suffix in _WEIGHTS_AND_CONFIGS and p.is_file())
    stats = {path: path.stat() for path in files}
    return canonical_hash(
        {p.relative_to(root).as_posix(): _sha256(p, stat.st_size, stat.st_mtime_ns) for p, stat in stats.items()}
    )


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def with_absolute_path(model: ModelConfig) -> ModelConfig:
    """The same model, named so that a process in another directory finds it."""
    path = Path(model.path)
    return model.model_copy(update={"path": str(path.absolute())}) if path.is_dir() else model
