"""A checkpoint's files on every node: fetched once per node, and converted where the number of workers changed."""

import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from prefopt.data.storage import Storage
from prefopt.distributed.training.checkpoints import CheckpointFolder, CheckpointManifest, scratch_directory
from prefopt.distributed.training.engine import ENGINE
from prefopt.distributed.training.universal import to_universal

SHADOWS = "shadows"
T = TypeVar("T")


@dataclass(frozen=True)
class RestoredFiles:
    """What a worker resumes from."""

    engine: Path
    """Directory that the engine loads from."""
    universal: bool
    """Whether it is in DeepSpeed's universal format."""
    shadows: list[Path]
    """The parts of the averages, one per worker that wrote them, or one if they were not sharded."""


@contextmanager
def restored_files(folder: CheckpointFolder, manifest: CheckpointManifest, work: Storage) -> Iterator[RestoredFiles]:
    """Files of a checkpoint that was found whole, while the block runs. All workers call it."""
    rank, universal = dist.get_rank(), bool(manifest.zero) and manifest.workers != dist.get_world_size()
    nodes = _gather(platform.node())
    leader = nodes.index(nodes[rank])
    with ExitStack() as stack:
        mine: tuple[Path, Path] | None = None
        if rank == leader:
            files = stack.enter_context(folder.local_copy(manifest))
            engine = files
            if universal:
                engine = stack.enter_context(scratch_directory(work, rank))
                to_universal(files / ENGINE, engine / ENGINE)
            mine = files, engine
        found = _gather(mine)[leader]
        assert found is not None
        files, engine = found
        yield RestoredFiles(engine, universal, sorted((files / SHADOWS).glob("*.safetensors")))
        dist.barrier()


def _gather(value: T) -> list[T]:
    received: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(received, value)
    return received
