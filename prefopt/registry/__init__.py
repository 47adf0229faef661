"""Which model is the champion, who made it so and why: a history that is only ever added to."""

from prefopt.registry.champion import champion_of, check_champion, differences, promotable
from prefopt.registry.clock import check_clock
from prefopt.registry.lock import LockedError, RetrainingLock, retraining_lock
from prefopt.registry.records import Action, Champion, Record, Watermark
from prefopt.registry.registry import ConflictError, Registry, current

__all__ = [
    "Action",
    "Champion",
    "ConflictError",
    "LockedError",
    "Record",
    "Registry",
    "RetrainingLock",
    "Watermark",
    "champion_of",
    "check_champion",
    "check_clock",
    "current",
    "differences",
    "promotable",
    "retraining_lock",
]
