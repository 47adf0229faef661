"""Policy snapshots as annotators: fixed draws of timestep and noise, and the implicit preference z that they show."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prefopt.config.panel import PanelConfig
from prefopt.data.framing import Framing
from prefopt.data.ids import digest, row_rng, row_uniform
from prefopt.data.labels import TIE
from prefopt.data.schema import VISITS
from prefopt.data.visits import latent_key, timestep_at
from prefopt.errors import InputError


def plan_draws(pairs: pa.Table, panel: PanelConfig, num_timesteps: int, framing: Framing) -> pa.Table:
    """The draws of every pair in the sample, pair by pair, as rows of VISITS with sampled noise.

    Draw k of K takes a timestep of the k-th of K equal parts of the range; both images share it, and the noise. All of
    it is a function of (snapshot_seed, pair, draw), and the timestep of K and the range.
    """
    judged = pairs.filter(pa.array([in_sample(pair, panel) for pair in pairs["pair_id"].to_pylist()], pa.bool_()))
    count, draws = judged.num_rows, panel.snapshot_draws
    each = np.repeat(np.arange(count), draws)
    numbered = [(pair, draw) for pair in judged["pair_id"].to_pylist() for draw in range(draws)]
    timesteps = [_timestep(pair, draw, panel, num_timesteps) for pair, draw in numbered]
    known = {
        "position": np.arange(len(each)),
        "visit_id": [digest("snapshot draw", pair, str(draw), str(panel.snapshot_seed)) for pair, draw in numbered],
        "pair_id": judged["pair_id"].take(each),
        "draw": np.tile(np.arange(draws), count),
        "label": np.full(len(each), TIE),
        "t_0": timesteps,
        "t_1": timesteps,
        **{name: np.zeros(len(each), dtype=bool) for name in ("flip_0", "flip_1", "drop_prompt")},
        **{name: column.take(each) for name, column in _framed(judged, framing).items()},
        **{name: pa.array([""] * len(each)) for name in ("vote_id", "inverted_key")},
    }
    columns = {field.name: known.get(field.name, pa.nulls(len(each), field.type)) for field in VISITS}
    return pa.table(columns).cast(VISITS)


def in_sample(pair_id: str, panel: PanelConfig) -> bool:
    """Whether snapshots judge a pair. A larger share holds all pairs of a smaller one."""
    return row_uniform(panel.snapshot_seed, "snapshot sample", pair_id) < panel.snapshot_share


def _timestep(pair: str, draw: int, panel: PanelConfig, num_timesteps: int) -> int:
    place = (draw + row_rng(panel.snapshot_seed, "snapshot timestep", pair, draw).random()) / panel.snapshot_draws
    return timestep_at(place, panel.snapshot_range, num_timesteps)


def _framed(pairs: pa.Table, framing: Framing) -> dict[str, pa.Array]:
    """What VISITS says of the images of pairs, unmirrored."""
    images = {side: pairs[f"image_{side}"].to_pylist() for side in (0, 1)}
    targets = [framing.bucket(*both) for both in zip(*images.values(), strict=True)]
    columns: dict[str, list[Any]] = {"target": targets}
    for side, of_side in images.items():
        columns[f"original_{side}"] = [framing.originals[image] for image in of_side]
        columns[f"crop_{side}"] = [framing.crop(*of, False) for of in zip(of_side, targets, strict=True)]
        columns[f"latent_key_{side}"] = [latent_key(image, False) for image in of_side]
    return {name: pa.array(values, VISITS.field(name).type) for name, values in columns.items()}


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
