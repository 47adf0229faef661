"""From a run's directory to a champion, and back to files that are proven to be the same."""

import json
from typing import Any

from prefopt.data.manifest import is_complete, read_manifest, verify
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.models.sources import made_weights
from prefopt.registry.records import Champion

_RUN, _TRAIN, _MODEL = "run.json", "train", "model/"
_SHOWN = 3


def champion_of(run: str) -> Champion:
    """The tuned model of a finished run, by an absolute path where it is local. Its files are not hashed again.

    Raises InputError if the run has no finished train stage.
    """
    storage = Storage(run)
    key = _train_key(storage)
    if not key or not is_complete(_stage(storage, key), key):
        raise InputError(f"The run in {run} has no finished train stage: nothing of it can be promoted.")
    return Champion(run=storage.place(), train=key, digest=made_weights(read_manifest(_stage(storage, key))))


def promotable(run: str) -> Champion:
    """`champion_of`, every file of which has been hashed again. Raises InputError as it does, and for changed files."""
    made = champion_of(run)
    problems = differences(made)
    if problems:
        raise InputError(
            f"The model of the run in {run} is not what its training wrote: {_named(problems)}. It was not promoted."
            " Restore the files, or train again."
        )
    return made


def check_champion(champion: Champion, what: str = "The champion") -> Storage:
    """The directory of its model, every file of which has been hashed again.

    Raises InputError, which calls it `what`, if the run or a file is gone or differs from what was promoted.
    """
    stage = _stage(Storage(champion.run), champion.train)
    problems = differences(champion)
    if problems:
        raise InputError(
            f"{what} in {stage.uri} is not what was promoted: {_named(problems)}. Restore the directory, or go back to"
            " an earlier champion: prefopt registry list shows them, prefopt registry rollback NUMBER takes one."
        )
    return stage.child(_MODEL.rstrip("/"))


def differences(champion: Champion) -> list[str]:
    """What is not as it was when the champion's digest was taken; empty if all its files are the same bytes."""
    stage = _stage(Storage(champion.run), champion.train)
    if not is_complete(stage, champion.train):
        return ["its train stage is not there any more, or not whole"]
    problems = [line for line in verify(stage) if line.startswith(_MODEL)]
    if not problems and made_weights(read_manifest(stage)) != champion.digest:
        problems = ["its manifest names other weights"]
    return problems


def _stage(run: Storage, key: str) -> Storage:
    return run.child(f"{_TRAIN}/{key[:12]}")


def _train_key(run: Storage) -> str | None:
    if not run.exists(_RUN):
        return None
    try:
        stages: Any = json.loads(run.read_bytes(_RUN))
        key = stages.get(_TRAIN)
    except (ValueError, RecursionError, AttributeError):
        raise InputError(f"{run.uri}/{_RUN} is damaged. Run the stages again: finished ones are kept.") from None
    return key if isinstance(key, str) else None


def _named(problems: list[str]) -> str:
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more
