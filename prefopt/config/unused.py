"""Options that a config sets although nothing reads them."""

from collections.abc import Iterator

from pydantic import BaseModel

from prefopt.config.objective import AdaptiveParams, MinorityConfig
from prefopt.config.train import TrainConfig


def unused_options(train: TrainConfig) -> list[str]:
    """Options of training that were set and have no effect, each with the reason. Defaults are never told."""
    found = [
        *_set(train, ["lora"] if train.method == "full" else [], "train", "train.method is full"),
        *_of_optimizer(train),
        *_of_guard(train),
    ]
    if isinstance(train.objective, AdaptiveParams):
        found += _of_minority(train.objective.u)
    return found


def _of_optimizer(train: TrainConfig) -> Iterator[str]:
    if train.optimizer.name == "adafactor":
        reason = "adafactor clips its updates itself and has no such moments"
        yield from _set(train.optimizer, ["clip", "betas", "eps"], "train.optimizer", reason)


def _of_guard(train: TrainConfig) -> Iterator[str]:
    action = train.guard.action
    if action in ("none", "pause"):
        yield from _set(train.guard, ["rate_factor", "most"], "train.guard", f"train.guard.action is {action}")


def _of_minority(u: MinorityConfig) -> Iterator[str]:
    place = "train.objective.u"
    offline = ["rho", "rho_l2", "ema"] if u.source == "offline" else []
    yield from _set(u, offline, place, f"{place}.source is offline")
    scaled = ["rho" if u.normalise == "reference" else "rho_l2"]
    scaled += [] if u.normalise == "running" else ["warmup", "decay"]
    yield from _set(u, [name for name in scaled if name not in offline], place, f"{place}.normalise is {u.normalise}")


def _set(branch: BaseModel, names: list[str], place: str, reason: str) -> Iterator[str]:
    for name in names:
        if name in branch.model_fields_set:
            yield f"{place}.{name} ({reason})"
