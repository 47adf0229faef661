"""The soft preference: worked by hand, and its symmetries."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config import RunConfig
from prefopt.data.scales import IsotonicCalibration, PlattCalibration, RewardScale
from prefopt.objectives.smpo import reward_preference
from prefopt.scoring.alpha import preference_gaps, soft_preference
from tests.kit.data import small_config

SCALES = {
    "world/taste": RewardScale(low=0.0, high=2.0, rms=1.0),
    "world/style": RewardScale(low=1.0, high=1.5, rms=1.0),
    "world/clutter": RewardScale(low=3.0, high=3.0, rms=0.0),
}
REWARDS = {
    "world/taste": (np.array([1.0, 0.0], np.float32), np.array([0.5, 2.0], np.float32)),
    "world/style": (np.array([1.25, 1.25], np.float32), np.array([1.5, 1.25], np.float32)),
    "world/clutter": (np.array([3.0, 3.0], np.float32), np.array([3.0, 9.0], np.float32)),
}
gaps = st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=30).map(np.array)
CALIBRATIONS = [
    None,
    PlattCalibration(slope=2.5, pairs=40),
    IsotonicCalibration(gap=[0.0, 0.2, 0.2000001, 3.0], probability=[0.5, 0.5, 0.7, 0.99], pairs=400),
]


def config(alpha: dict[str, Any], **branches: Any) -> RunConfig:
    return small_config(Path("place"), [{"kind": "world"}], score={"alpha": alpha}, **branches)


def found(alpha: dict[str, Any]) -> list[float]:
    return preference_gaps(config(alpha), REWARDS, SCALES).tolist()


def test_one_reward_by_hand() -> None:
    """Gaps 0.5 and -2 over a range of 2."""
    assert found({"reward": "world/taste"}) == [0.25, -1.0]
    alpha = soft_preference(np.array([0.25, -1.0]))
    assert alpha.tolist() == pytest.approx([1 / (1 + math.exp(-0.25)), 1 / (1 + math.exp(1.0))], rel=1e-15)


def test_an_ensemble_by_hand() -> None:
    """taste 0.25 and -1, style -0.5 and 0 in units of their ranges; weights 3 to 1."""
    assert found({"rewards": {"world/taste": 3, "world/style": 1}}) == [0.0625, -0.75]
    assert found({"rewards": {"world/style": 0.5, "world/taste": {"weight": 1.5}}}) == [0.0625, -0.75]


def test_every_member_may_have_constants_of_its_own() -> None:
    style = {"normalise": "constants", "minimum": -1.0, "maximum": 9.0}
    assert found({"rewards": {"world/taste": 1, "world/style": style}}) == pytest.approx([0.1125, -0.5])


def test_a_reward_without_a_range_adds_nothing() -> None:
    assert found({"reward": "world/clutter"}) == [0.0, 0.0]
    assert found({"rewards": {"world/taste": 1, "world/clutter": 1}}) == [0.125, -0.5]


def test_published_constants_are_those_of_the_cosine_in_the_units_of_the_reward() -> None:
    """SmPO's public code: a cosine gap of 0.01 gives the factor 10 (2 alpha - 1) = 0.30007, one of 0.05 gives 1.48961.

    prefopt's PickScore is logit scale x cosine, with the published checkpoint's scale of 100.
    """
    cosine = np.array([[0.21, 0.20], [0.25, 0.20]])
    rewards = {"pickscore": tuple(100.0 * cosine.T)}
    alpha = soft_preference(
        preference_gaps(config({"reward": "pickscore", "normalise": "published"}), rewards, {})  # type: ignore[arg-type]
    )
    assert (10 * (2 * alpha - 1)).tolist() == pytest.approx([0.30007, 1.48961], abs=5e-6)
    low, high = 0.11543526500463486, 0.28201571106910706
    bare = reward_preference(*torch.from_numpy(cosine.T.copy()), low, high)
    assert alpha.tolist() == pytest.approx(bare.tolist(), rel=1e-12)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@given(gap=gaps)
def test_the_two_images_share_one(calibration: Any, gap: np.ndarray) -> None:
    forth, back = soft_preference(gap, calibration), soft_preference(-gap, calibration)
    assert (forth + back == 1.0).all()
    assert ((forth >= 0.0) & (forth <= 1.0)).all()
    assert ((forth - 0.5) * gap >= 0.0).all()


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@given(gap=gaps)
def test_a_larger_gap_never_gives_a_smaller_alpha(calibration: Any, gap: np.ndarray) -> None:
    assert (np.diff(soft_preference(np.sort(gap), calibration)) >= 0.0).all()


@given(st.floats(1e-3, 1e3), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_only_ratios_of_weights_matter(factor: float, first: float, second: float) -> None:
    plain = {"world/taste": first, "world/style": second}
    scaled = {name: factor * weight for name, weight in plain.items()}
    assert found({"rewards": scaled}) == pytest.approx(found({"rewards": plain}), rel=1e-12, abs=1e-15)


def test_the_order_of_rewards_changes_no_bit() -> None:
    names = ["world/taste", "world/style", "world/clutter"]
    weights = dict(zip(names, (0.1, 0.7, 0.3), strict=True))
    turned = {name: weights[name] for name in reversed(names)}
    assert found({"rewards": weights}) == found({"rewards": turned})
