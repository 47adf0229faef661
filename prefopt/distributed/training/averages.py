"""Slow and fast averages of the policy during distributed training: float32 shadows and the copies that predict."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
import torch.distributed as dist
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

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict` and bring the copies to it."""
        for who, shadow in self._shadows.items():
            prefix = f"{who}."
            shadow.load_state_dict(
                {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
            )
        self.write_copies()

    @property
    def sharded(self) -> bool:
        """Whether workers keep different parts."""
        return self._shards.count > 1

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
        numel = getattr(parameter, "ds_numel", parameter.numel())
        if bucket and size + numel > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(name)
        size += numel
    if bucket:
        yield bucket
