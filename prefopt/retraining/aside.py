"""Pairs that no night trains on, since the drift check spoke against the night that brought them.

They are kept in the registry, `aside/<number>.txt` for each such night, until a config names it under
`retrain.released`.
"""

from collections.abc import Collection, Iterable, Sequence

from prefopt.data.pair_lists import encoded_pairs, read_pairs
from prefopt.data.storage import Storage
from prefopt.registry import Action, Record, Registry

_NOT_TRAINED: frozenset[Action] = frozenset({"hold", "reject"})


def set_aside(registry: Registry, number: int, pairs: Iterable[str] | None) -> None:
    """Keep the pairs of a night, or none, before its record is written: what a killed attempt has left is replaced."""
    storage, name = Storage(registry.uri), _name(number)
    if pairs is not None:
        storage.write_bytes(name, encoded_pairs(pairs))
    elif storage.exists(name):
        storage.delete(name)


def read_aside(registry: Registry, history: Sequence[Record], released: Collection[int]) -> frozenset[str]:
    """All pairs that are set aside. InputError if a file of theirs cannot be read."""
    storage, found = Storage(registry.uri), frozenset[str]()
    for record in history:
        name = _name(record.number)
        if record.action in _NOT_TRAINED and record.number not in released and storage.exists(name):
            found |= read_pairs(f"{registry.uri}/{name}")
    return found


def _name(number: int) -> str:
    return f"aside/{number:08d}.txt"
