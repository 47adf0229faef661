import json
from pathlib import Path

import numpy as np
import pytest

from prefopt.data.scales import (
    IsotonicCalibration,
    PlattCalibration,
    RewardScale,
    Scales,
    measure_rewards,
    read_scales,
    root_mean_square,
    scaled_margin,
)
from prefopt.data.storage import Storage
from prefopt.errors import InputError

SOME = Scales(
    rewards={"r": RewardScale(low=0.0, high=1.0, rms=0.5)},
    snapshots={"snapshot/abc": 1e-4},
    crowd_rms=1.2,
    annotators=["r", "snapshot/abc", "crowd"],
    calibration=IsotonicCalibration(gap=[0.0, 0.5], probability=[0.5, 0.75], pairs=9),
)


def test_scales_by_hand() -> None:
    first, second = np.array([1.0, 3.0], np.float32), np.array([0.0, 5.0], np.float32)
    scale = measure_rewards({"r": (first, second)})["r"]
    assert scale.rms == pytest.approx(np.sqrt((1 + 4) / 2))
    assert scale.low == pytest.approx(0.03)
    assert scale.high == pytest.approx(4.94)


def test_the_root_mean_square_is_of_those_who_judged() -> None:
    assert root_mean_square(np.array([3.0, np.nan, 4.0])) == pytest.approx(np.sqrt(12.5))
    assert root_mean_square(np.array([np.nan])) == root_mean_square(np.array([])) == 0.0


def test_margins_are_in_rms_units() -> None:
    assert scaled_margin(np.array([2.0, -1.0]), rms=2.0, rho=3.0).tolist() == [3.0, -1.5]


@pytest.mark.parametrize("rms", [0.0, 2.0])
def test_an_absent_annotator_stays_absent(rms: float) -> None:
    margins = scaled_margin(np.array([0.0, np.nan]), rms=rms, rho=3.0)
    assert margins[0] == 0.0
    assert np.isnan(margins[1])


@pytest.mark.parametrize("calibration", [None, PlattCalibration(slope=3.0, pairs=40), SOME.calibration])
def test_frozen_scales_are_read_back_to_the_last_digit(tmp_path: Path, calibration: object) -> None:
    scales = SOME.model_copy(update={"calibration": calibration, "crowd_rms": 0.1 + 0.2})
    (tmp_path / "scales.json").write_text(scales.model_dump_json())
    assert read_scales(Storage(str(tmp_path))) == scales


@pytest.mark.parametrize("version", [1, 3])
def test_scales_of_another_version_are_refused(tmp_path: Path, version: int) -> None:
    content = {"version": version, "rewards": {}, "something": "else"}
    (tmp_path / "scales.json").write_text(json.dumps(content))
    words = rf"scales\.json are of version {version}, and this prefopt reads version 2: run the score stage again"
    with pytest.raises(InputError, match=words):
        read_scales(Storage(str(tmp_path)))


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2}', '{"version": 2, "rewards": {"r": {"low": NaN}}}'])
def test_damaged_scales_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "scales.json").write_text(content)
    with pytest.raises(InputError, match=r"scales\.json cannot be read"):
        read_scales(Storage(str(tmp_path)))
