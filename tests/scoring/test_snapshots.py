"""Draws of policy snapshots, and the preference that errors amount to."""

import numpy as np
import pyarrow as pa
import pytest

from prefopt.config.base import Size
from prefopt.config.panel import PanelConfig
from prefopt.data.framing import Framing
from prefopt.data.ids import row_rng
from prefopt.data.schema import VISITS
from prefopt.data.visits import latent_key, visit_noise
from prefopt.diffusion import error_gap
from prefopt.errors import InputError
from prefopt.scoring.snapshots import implicit_preference, in_sample, plan_draws
from tests.kit.models import SIZE
from tests.kit.stages import pair_row

PAIRS = pa.Table.from_pylist([pair_row(number, "a red circle", "train") for number in range(300)])


FRAMING = Framing((SIZE,), {image: SIZE for name in ("image_0", "image_1") for image in PAIRS[name].to_pylist()})


def drawn(pairs: pa.Table, settings: PanelConfig, framing: Framing = FRAMING) -> pa.Table:
    return plan_draws(pairs, settings, 1000, framing)


def panel(**options: object) -> PanelConfig:
    return PanelConfig(rewards=("a", "b"), snapshots=("s",), **options)  # type: ignore[arg-type]


def test_every_pair_has_a_draw_in_each_part_of_the_timesteps() -> None:
    draws = drawn(PAIRS, panel(snapshot_draws=4))
    assert draws.schema == VISITS
    assert draws.num_rows == 1200
    assert draws["pair_id"].to_pylist()[:8] == [PAIRS["pair_id"][pair].as_py() for pair in (0, 0, 0, 0, 1, 1, 1, 1)]
    assert draws["draw"].to_pylist()[:8] == [0, 1, 2, 3] * 2
    timesteps = np.array(draws["t_0"].to_pylist()).reshape(300, 4)
    assert (timesteps // 250 == np.arange(4)).all()
    assert draws["t_0"].equals(draws["t_1"])
    inside = (timesteps % 250).ravel()
    assert abs(inside.mean() - 124.5) < 4 * 72.2 / np.sqrt(inside.size)
    assert not any(any(draws[name].to_pylist()) for name in ("flip_0", "flip_1", "drop_prompt", "inverted_key"))
    assert draws["latent_key_1"][5].as_py() == latent_key(PAIRS["image_1"][1].as_py(), False)


def test_a_draw_is_a_function_of_seed_pair_and_number() -> None:
    row = drawn(PAIRS, panel()).to_pylist()[5]
    place = row_rng(0, "snapshot timestep", row["pair_id"], 1).random()
    assert row["t_0"] == int((1 + place) / 4 * 1000)
    turned = drawn(PAIRS.take(list(range(299, -1, -1))), panel())
    assert {r["visit_id"]: r["t_0"] for r in turned.to_pylist()} == {
        r["visit_id"]: r["t_0"] for r in drawn(PAIRS, panel()).to_pylist()
    }


def test_a_range_holds_all_timesteps_and_its_parts_are_equal() -> None:
    draws = drawn(PAIRS, panel(snapshot_draws=2, snapshot_range=(0.5, 0.9)))
    timesteps = np.array(draws["t_0"].to_pylist()).reshape(300, 2)
    assert (timesteps.min(axis=0) >= [500, 700]).all()
    assert (timesteps.max(axis=0) < [700, 900]).all()
    assert draws["visit_id"].equals(drawn(PAIRS, panel(snapshot_draws=2))["visit_id"])


def test_images_are_framed_as_a_visit_frames_them() -> None:
    wide, square = Size(32, 64), Size(32, 32)
    second = {PAIRS[f"image_{side}"][1].as_py(): Size(40, 72) for side in (0, 1)}
    originals = {**dict.fromkeys(FRAMING.originals, square), **second}
    rows = drawn(PAIRS, panel(snapshot_draws=2), Framing((square, wide), originals)).to_pylist()
    assert [tuple(row["target"]) for row in rows[:6]] == [square, square, wide, wide, square, square]
    assert (rows[2]["original_1"], rows[2]["crop_0"]) == ([40, 72], [2, 0])


def test_another_seed_draws_anew_and_more_draws_keep_the_noise() -> None:
    first, more, other = (
        drawn(PAIRS, panel(**options))
        for options in ({"snapshot_draws": 2}, {"snapshot_draws": 4}, {"snapshot_draws": 2, "snapshot_seed": 1})
    )
    assert set(first["visit_id"].to_pylist()) < set(more["visit_id"].to_pylist())
    assert not set(first["visit_id"].to_pylist()) & set(other["visit_id"].to_pylist())
    noises = [visit_noise(visit, (2, 2)) for visit in more["visit_id"].to_pylist()[:4]]
    assert len({noise.tobytes() for noise in noises}) == 4


def test_a_sample_has_its_share_and_a_larger_one_holds_it() -> None:
    chosen = [
        {pair for pair in PAIRS["pair_id"].to_pylist() if in_sample(pair, panel(snapshot_share=share))}
        for share in (0.3, 0.7, 1.0)
    ]
    assert chosen[0] < chosen[1] < chosen[2]
    assert [len(pairs) / 300 for pairs in chosen] == pytest.approx([0.3, 0.7, 1.0], abs=0.09)
    draws = drawn(PAIRS, panel(snapshot_share=0.3, snapshot_draws=3))
    assert set(draws["pair_id"].to_pylist()) == chosen[0]
    assert draws["position"].to_pylist() == list(range(3 * len(chosen[0])))


def test_the_preference_by_hand() -> None:
    """Pair b alone is judged. Draw 0: the snapshot lowers image_0's error by 0.3 and image_1's by 0.1; draw 1: by 0 and
    by 0.1. Hence (0.2 - 0.1) / 2."""
    draws = pa.table({"pair_id": ["b", "b"]})
    reference = np.array([[0.5, 0.4], [0.2, 0.3]], np.float32)
    snapshot = np.array([[0.2, 0.3], [0.2, 0.2]], np.float32)
    z = implicit_preference(["a", "b", "c"], draws, reference, snapshot, "it")
    assert z[1] == pytest.approx(0.05, rel=1e-6)
    assert np.isnan(z[[0, 2]]).all()
    back = implicit_preference(["b"], draws, reference[:, ::-1], snapshot[:, ::-1], "it")
    assert back.tolist() == [-z[1]]


def test_it_is_z_of_the_objectives_with_image_0_in_the_winners_place() -> None:
    import torch

    rng = np.random.default_rng(0)
    reference, snapshot = rng.random((2, 5, 2)).astype(np.float32)
    gaps = error_gap(*(torch.from_numpy(side.copy()) for errors in (reference, snapshot) for side in errors.T))
    pairs = [str(pair) for pair in range(5)]
    z = implicit_preference(pairs, pa.table({"pair_id": pairs}), reference, snapshot, "it")
    assert z.tolist() == pytest.approx(gaps.tolist(), abs=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_errors_that_are_not_finite_are_refused(broken: float) -> None:
    draws = pa.table({"pair_id": ["a", "b"]})
    snapshot = np.array([[0.1, 0.1], [0.1, broken]], np.float32)
    with pytest.raises(InputError, match=r"errors of snapshot/x .* on pair b are not finite"):
        implicit_preference(["a", "b"], draws, np.ones((2, 2), np.float32), snapshot, "snapshot/x")
