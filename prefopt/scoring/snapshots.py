"""Policy snapshots as annotators: fixed draws of timestep and noise, and the implicit preference z that they show."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefopt.config.panel import PanelConfig
from prefopt.data.ids import digest, row_rng, row_uniform
from prefopt.data.labels import TIE
from prefopt.data.schema import VISITS
from prefopt.data.visits import latent_key
from prefopt.errors import InputError


def plan_draws(pairs: pa.Table, panel: PanelConfig, num_timesteps: int) -> pa.Table:
    """The draws of every pair in the sample, pair by pair, as rows of VISITS with sampled noise.

    Draw k of K takes a timestep of the k-th of K equal parts; both images share it, and the noise. All of it is a
    function of (snapshot_seed, pair, draw), and the timestep of K.
    """
    rows = []
    for pair in pairs.select(["pair_id", "image_0", "image_1"]).to_pylist():
        if in_sample(pair["pair_id"], panel):
            rows += [_draw(pair, draw, panel, num_timesteps) for draw in range(panel.snapshot_draws)]
    for position, row in enumerate(rows):
        row["position"] = position
    return pa.Table.from_pylist(rows, schema=VISITS)


def in_sample(pair_id: str, panel: PanelConfig) -> bool:
    """Whether snapshots judge a pair. A larger share holds all pairs of a smaller one."""
    return row_uniform(panel.snapshot_seed, "snapshot sample", pair_id) < panel.snapshot_share


def _draw(pair: dict[str, str], draw: int, panel: PanelConfig, num_timesteps: int) -> dict[str, object]:
    place = row_rng(panel.snapshot_seed, "snapshot timestep", pair["pair_id"], draw).random()
    timestep = int((draw + place) * num_timesteps / panel.snapshot_draws)
    return {
        "visit_id": digest("snapshot draw", pair["pair_id"], str(draw), str(panel.snapshot_seed)),
        "pair_id": pair["pair_id"],
        "draw": draw,
        "vote_id": "",
        "label": TIE,
        "t_0": timestep,
        "t_1": timestep,
        "flip_0": False,
        "flip_1": False,
        "drop_prompt": False,
        "latent_key_0": latent_key(pair["image_0"], False),
        "latent_key_1": latent_key(pair["image_1"], False),
        "inverted_key": "",
    }


def implicit_preference(
    pairs: Sequence[str], draws: pa.Table, reference: np.ndarray, snapshot: np.ndarray, name: str
) -> np.ndarray:
    """z of a snapshot for each of the pairs, float64 [n], positive where it prefers image_0; NaN outside the sample.

    The mean over a pair's draws of (reference_0 - snapshot_0) - (reference_1 - snapshot_1), from the errors [rows, 2]
    of the draws. InputError, naming the snapshot, unless all errors are finite.
    """
    drop = reference.astype(np.float64) - snapshot
    z = drop[:, 0] - drop[:, 1]
    judged = draws["pair_id"].to_pylist()
    if not np.isfinite(z).all():
        pair = judged[int(np.argmin(np.isfinite(z)))]
        raise InputError(
            f"The denoising errors of {name} or of its reference on pair {pair} are not finite: its weights are broken,"
            " or too large for train.precision. Leave it out of score.panel.snapshots, or set train.precision: fp32."
        )
    place = {pair: row for row, pair in enumerate(pairs)}
    rows = np.array([place[pair] for pair in judged], dtype=np.int64)
    counts = np.bincount(rows, minlength=len(pairs))
    sums = np.bincount(rows, weights=z, minlength=len(pairs))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
