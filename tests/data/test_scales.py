import numpy as np
import pytest

from prefopt.data.scales import Scales, measure_scales, scaled_margin


def test_scales_by_hand() -> None:
    first, second = np.array([1.0, 3.0], np.float32), np.array([0.0, 5.0], np.float32)
    scales = measure_scales({"r": (first, second)}, np.array([3.0, 4.0]))
    assert scales.rewards["r"].rms == pytest.approx(np.sqrt((1 + 4) / 2))
    assert scales.rewards["r"].low == pytest.approx(0.03)
    assert scales.rewards["r"].high == pytest.approx(4.94)
    assert scales.crowd_rms == pytest.approx(np.sqrt(12.5))
    assert Scales.model_validate_json(scales.model_dump_json()) == scales


def test_no_crowd_has_no_scale() -> None:
    some = np.ones(3, np.float32)
    assert measure_scales({"r": (some, some)}, np.array([])).crowd_rms == 0.0


def test_margins_are_in_rms_units() -> None:
    assert scaled_margin(np.array([2.0, -1.0]), rms=2.0, rho=3.0).tolist() == [3.0, -1.5]


@pytest.mark.parametrize("rms", [0.0, 2.0])
def test_an_absent_annotator_stays_absent(rms: float) -> None:
    margins = scaled_margin(np.array([0.0, np.nan]), rms=rms, rho=3.0)
    assert margins[0] == 0.0
    assert np.isnan(margins[1])
