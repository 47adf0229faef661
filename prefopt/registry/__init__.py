"""Which model is the champion, who made it so and why: a history that is only ever added to."""

from prefopt.registry.champion import champion_of, check_champion
from prefopt.registry.records import Action, Champion, Record
from prefopt.registry.registry import ConflictError, Registry, current

__all__ = ["Action", "Champion", "ConflictError", "Record", "Registry", "champion_of", "check_champion", "current"]
