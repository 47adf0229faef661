"""What the leaderboard reads of an evaluation's metrics.json."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prefopt.errors import InputError
from prefopt.evaluation.protocol import Protocol
from prefopt.evaluation.statistics import Estimate


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Figure(_Record):
    """A figure with its interval."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def estimate(self) -> Estimate:
        """As statistics have it."""
        return Estimate(self.value, self.low, self.high, self.n)


class BaseScore(_Record):
    """The base model's scores on a reward."""

    mean: float
    median: float


class ModelScore(BaseScore):
    """A model's scores on a reward, and how often they are above the base's."""

    win_rate: Figure


class Features(_Record):
    """What images were compared by."""

    name: str
    version: str


class Changes(_Record):
    """How a model's diversity differs from the base's."""

    within_change: Figure | None
    across_change: Figure | None


class Diversities(_Record):
    features: Features
    models: dict[str, Changes]


class Distances(_Record):
    features: Features
    models: dict[str, Figure]


class Metrics(_Record):
    """The parts of metrics.json that are read."""

    base: str
    protocol: dict[str, Any] | None = None
    models: dict[str, dict[str, ModelScore]]
    base_scores: dict[str, BaseScore]
    accuracy_heldout: Figure | None
    diversity: Diversities | None
    distance_from_base: Distances | None


def read_metrics(text: bytes, place: str) -> tuple[Metrics, Protocol, float]:
    """Figures, protocol and the level of the intervals. InputError if they do not stand there."""
    try:
        found = Metrics.model_validate_json(text)
        if found.protocol is None:
            raise InputError(
                f"{place} does not say under what conditions its models were compared: an earlier version of prefopt"
                " wrote it. Run `prefopt evaluate` again for that run; images that are there are not drawn again."
            )
        told = dict(found.protocol)
        digest, level = told.pop("digest", None), told.pop("level", None)
        protocol = Protocol.model_validate(told)
        if digest != protocol.digest or not isinstance(level, float) or protocol.headline not in protocol.rewards:
            raise InputError(f"{place}: the entry `protocol` contradicts itself. Run `prefopt evaluate` again.")
    except ValidationError as error:
        where, what = ".".join(map(str, error.errors()[0]["loc"])), error.errors()[0]["msg"]
        raise InputError(f"{place} cannot be read ({where}: {what}): run `prefopt evaluate` again.") from None
    return found, protocol, level
