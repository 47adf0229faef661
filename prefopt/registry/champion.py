"""From a run's directory to a champion, and back to files that are proven to be the same."""

import json

from prefopt.data.manifest import is_complete, read_manifest, verify
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.models.sources import made_weights
from prefopt.registry.records import Champion

_RUN, _TRAIN, _MODEL = "run.json", "train", "model/"


def champion_of(run: str) -> Champion:
    """The tuned model of a finished run. InputError if the run has no finished train stage."""
    storage = Storage(run)
    key = json.loads(storage.read_bytes(_RUN)).get(_TRAIN) if storage.exists(_RUN) else None
    stage = storage.child(f"{_TRAIN}/{key[:12]}") if key else storage
    if not key or not is_complete(stage, key):
        raise InputError(f"The run in {run} has no finished train stage: nothing of it can be promoted.")
    return Champion(run=storage.uri, train=key, digest=made_weights(read_manifest(stage)))


def check_champion(champion: Champion) -> Storage:
    """The directory of its model, every file of which has been hashed again.

    Raises InputError if the run or a file is gone or differs from what was promoted.
    """
    stage = Storage(champion.run).child(f"{_TRAIN}/{champion.train[:12]}")
    if not is_complete(stage, champion.train):
        raise InputError(
            f"The champion's train stage is not in {stage.uri} any more. Restore the directory, or go back to an"
            " earlier champion: prefopt registry rollback."
        )
    problems = [line for line in verify(stage) if line.startswith(_MODEL)]
    if problems or made_weights(read_manifest(stage)) != champion.digest:
        named = "; ".join(problems[:3]) or "its manifest names other weights"
        raise InputError(
            f"The champion in {stage.uri} is not what was promoted: {named}. Restore the directory, or go back to an"
            " earlier champion: prefopt registry rollback."
        )
    return stage.child(_MODEL.rstrip("/"))
