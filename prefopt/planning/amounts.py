"""What a stage does, in countable things."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """So many equal things to do."""

    what: str
    count: float
    flops: float = 0.0
    """Of one."""
    precision: str = "fp32"
    cpu_seconds: float = 0.0
    """Of one, on one CPU: what is not the model's work."""


@dataclass(frozen=True)
class Write:
    """Files that are written."""

    what: str
    nbytes: float
    where: str
    """`store`, which runs share, or `run`."""


@dataclass(frozen=True)
class StageWork:
    """A stage's work, writes, and who shares it."""

    stage: str
    items: Sequence[Item]
    writes: Sequence[Write]
    workers: int
    """Actors or training workers that work side by side."""
    uses_model: bool
    """Whether they hold models: then they run on GPUs where there are any."""
    fixed_seconds: float
    """For processes to start, whatever the work."""

    @property
    def flops(self) -> float:
        """Of all items."""
        return sum(item.count * item.flops for item in self.items)

    @property
    def nbytes(self) -> float:
        """Of all writes."""
        return sum(write.nbytes for write in self.writes)


def some(*items: Item) -> tuple[Item, ...]:
    """The items of which there is anything."""
    return tuple(item for item in items if item.count > 0)
