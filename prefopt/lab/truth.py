"""Which labels contradict what the majority truly prefers, where a reward knows that."""

import numpy as np
import pyarrow as pa

from prefopt.config import RunConfig
from prefopt.data.labels import TIE
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.distributed.costly import CostlyRows
from prefopt.distributed.units import say_nothing
from prefopt.errors import ConfigError
from prefopt.rewards import reward_spec
from prefopt.stages.base import StageContext, StageOutput


def check_truth(config: RunConfig, reward: str) -> None:
    """ConfigError if the laboratory's `truth` is no reward of the run; InputError if its weights are not there."""
    try:
        reward_spec(reward, config)
    except ConfigError as error:
        raise ConfigError(f"truth: {error}") from None


def score_truth(context: StageContext, reward: str) -> None:
    """Let the reward judge every pair, in this process, unless the store holds its scores."""
    ingest, work = context.parents["ingest"], context.output.child("work")
    config = context.config
    here = config.model_copy(update={"cluster": config.cluster.model_copy(update={"engine": "process"})})
    costly = CostlyRows(here, context.sources, context.store, work, context.progress)
    costly.fill_images(read_tables(ingest, "images-"), read_tables(ingest, "pairs-"), (reward,), ())
    context.output.delete("work")


def against_truth(config: RunConfig, ingest: StageOutput, store: Storage, reward: str, labels: pa.Table) -> np.ndarray:
    """bool [n] of labels (vote_id, pair_id, label): whether it prefers the image that the reward scores lower. Equal
    scores are contradicted by nobody. InputError if the reward has not judged a pair."""
    costly = CostlyRows(config, (), store, store, say_nothing)
    pairs = read_tables(ingest, "pairs-", ["pair_id", "prompt", "image_0", "image_1"])
    first, second = costly.reward_scores(pairs, (reward,))[reward]
    prefers = dict(zip(pairs["pair_id"].to_pylist(), np.sign(first - second), strict=True))
    said = np.sign(labels["label"].to_numpy() - TIE)
    return np.asarray(
        [prefers[pair] * sign < 0 for pair, sign in zip(labels["pair_id"].to_pylist(), said, strict=True)]
    )
