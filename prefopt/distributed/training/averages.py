"""Slow and fast averages of the policy during distributed training: float32 shadows and the copies that predict."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prefopt.config.objective import EmaConfig
from prefopt.distributed.training.denoisers import Denoisers
from prefopt.distributed.training.engine import gathered
from prefopt.models.adapters import FAST, SLOW
from prefopt.models.ema import EmaShadow

BUCKET = 16_000_000
"""Values gathered at a time, at least one parameter."""


class Averages:
    """Keeps the averages of a run's models. At ZeRO 1 to 3 each worker keeps its part of every shadow."""

    def __init__(self, denoisers: Denoisers, who: Sequence[str], config: EmaConfig) -> None:
        self._models = denoisers
        zero = denoisers.engine.zero
        self._shards = Shards(dist.get_rank(), dist.get_world_size()) if zero else Shards(0, 1)
        self._names = list(denoisers.engine.parameters)
        decays = {SLOW: config.slow, FAST: config.fast}
        parts = self._policy_parts() if who else []
        self._shadows = {name: EmaShadow(parts, decays[name], config.ramp) for name in who}

    def update(self) -> None:
        """After an optimizer step that was applied."""
        if not self._shadows:
            return
        parts = self._policy_parts()
        for shadow in self._shadows.values():
            shadow.update(parts)
        self.write_copies()

    def write_copies(self) -> None:
        """Bring the copies that predict to the shadows' values."""
        for who, shadow in self._shadows.items():
            copies = self._models.weights(who)
            parts = iter(shadow.tensors)
            for bucket in _buckets(self._names, copies):
                self._write([copies[name] for name in bucket], list(islice(parts, len(bucket))))

    def state_dict(self) -> dict[str, Tensor]:
        """This worker's part of the shadows, for safetensors."""
        return {
            f"{who}.{name}": tensor
            for who, shadow in self._shadows.items()
            for name, tensor in shadow.state_dict().items()
        }

    def save(self, directory: Path) -> None:
        """Write this worker's part of the shadows, if it is not the same as the first worker's."""
        rank = dist.get_rank()
        if self._shadows and (rank == 0 or self._shards.count > 1):
            directory.mkdir()
            save_file(self.state_dict(), str(directory / f"{rank:05d}.safetensors"))

    def load(self, parts: Sequence[Path]) -> None:
        """Continue from files written by `save`, those of all workers in order, and bring the copies to them.

        The parts are cut anew if another number of workers wrote them.
        """
        sizes = [_numel(self._models.engine.parameters[name]) for name in self._names]
        for who, shadow in self._shadows.items():
            shadow.load_state_dict(self._shards.read(parts, f"{who}.", sizes))
        self.write_copies()

    def _policy_parts(self) -> list[Tensor]:
        engine, parts = self._models.engine, []
        for bucket in _buckets(self._names, engine.parameters):
            with engine.float32_values(bucket) as values:
                parts += [self._shards.part(value).clone() for value in values]
        return parts

    def _write(self, copies: Sequence[nn.Parameter], parts: Sequence[Tensor]) -> None:
        whole = self._shards.whole(parts)
        with gathered(copies, self._models.engine.zero, write=True):
            for copy, value in zip(copies, whole, strict=True):
                copy.data.copy_(value[: copy.numel()].view_as(copy))


class Shards:
    """How flattened tensors are cut into one equal part per worker, the last padded with zeros."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank = rank
        self.count = count

    def part(self, tensor: Tensor) -> Tensor:
        """This worker's part of a tensor, flat."""
        flat = tensor.detach().flatten()
        size = -(-flat.numel() // self.count)
        padded = torch.nn.functional.pad(flat, (0, size * self.count - flat.numel()))
        return padded[self.rank * size : (self.rank + 1) * size]

    def read(self, parts: Sequence[Path], prefix: str, sizes: Sequence[int]) -> dict[str, Tensor]:
        """This worker's parts of tensors of these sizes from the files of all that wrote them, however many.

        The tensors are named by `prefix` and their number; what else has the prefix is the same in all files.
        """
        with ExitStack() as stack:
            files = [stack.enter_context(safe_open(str(path), framework="pt")) for path in parts]
            names = [key.removeprefix(prefix) for key in files[0].keys() if key.startswith(prefix)]  # noqa: SIM118
            return {name: self._read(files, prefix + name, sizes) for name in names}

    def _read(self, files: Sequence[Any], key: str, sizes: Sequence[int]) -> Tensor:
        number = key.rsplit(".", 1)[1]
        if len(files) == self.count or not number.isdigit():
            mine: Tensor = files[min(self.rank, len(files) - 1)].get_tensor(key)
            return mine
        return self.part(torch.cat([file.get_tensor(key) for file in files])[: sizes[int(number)]])

    def whole(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The flat tensors, still padded, of which every worker gives its parts."""
        if self.count == 1:
            return list(parts)
        mine = torch.cat(list(parts))
        received = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(received, mine)
        sizes = [part.numel() for part in parts]
        split = [torch.split(tensor, sizes) for tensor in received]
        return [torch.cat([rank[index] for rank in split]) for index in range(len(sizes))]


def _buckets(names: Sequence[str], parameters: Mapping[str, nn.Parameter]) -> Iterator[list[str]]:
    bucket: list[str] = []
    size = 0
    for name in names:
        parameter = parameters[name]
        numel = _numel(parameter)
        if bucket and size + numel > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(name)
        size += numel
    if bucket:
        yield bucket


def _numel(parameter: nn.Parameter) -> int:
    """Values of a parameter as a whole; at ZeRO 3 it holds none itself."""
    return getattr(parameter, "ds_numel", parameter.numel())
