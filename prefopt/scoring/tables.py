"""The table of rewards, as the score stage writes it."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from prefopt.data.ids import prompt_id
from prefopt.data.schema import REWARDS

_KEYS = ("image_id", "prompt_id", "reward", "version")


def reward_table(
    pairs: pa.Table, rewards: Mapping[str, tuple[np.ndarray, np.ndarray]], versions: Mapping[str, str]
) -> pa.Table:
    """REWARDS: a row per unique (image, prompt) and reward, sorted; from scores of image_0 and of image_1 [n] each."""
    images = pa.concat_arrays([*pairs["image_0"].chunks, *pairs["image_1"].chunks])
    prompts = pa.array([prompt_id(prompt) for prompt in pairs["prompt"].to_pylist()] * 2, pa.string())
    tables = [REWARDS.empty_table()]
    for name, scores in rewards.items():
        same = [pa.repeat(text, len(images)) for text in (name, versions[name])]
        tables.append(pa.table([images, prompts, *same, np.concatenate(scores)], schema=REWARDS))
    table = pa.concat_tables(tables).group_by(list(_KEYS), use_threads=False).aggregate([("score", "min")])
    return table.rename_columns(REWARDS.names).cast(REWARDS).sort_by([(name, "ascending") for name in _KEYS])
