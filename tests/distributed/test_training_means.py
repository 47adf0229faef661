import json

import pytest
import torch

from prefopt.distributed.training.means import RunningMeans, mean_columns, without_means


def _take(means: RunningMeans, *values: float) -> None:
    means.update({"loss": torch.zeros(2), **mean_columns({"gain": torch.tensor(values)})})


def test_the_first_mean_is_the_first_steps_and_later_ones_forget() -> None:
    """Decay 0.5: (0.5 x 2 + 0.25 x 2) / 0.75 stays 2, and with 8 after it (0.25 x 2 + 0.5 x 8) / 0.75 = 6."""
    means = RunningMeans(["gain"], decay=0.5)
    assert means.values() == {}
    _take(means, 1.0, 3.0)
    assert means.values() == {"gain": pytest.approx(2.0)}
    _take(means, 8.0, 8.0)
    assert means.values() == {"gain": pytest.approx(6.0)}


def test_it_survives_json() -> None:
    means, again = RunningMeans(["gain"]), RunningMeans(["gain"])
    _take(means, 0.1, 0.7)
    again.load_state_dict(json.loads(json.dumps(means.state_dict())))
    for one in (means, again):
        _take(one, 0.3, 0.2)
    assert again.values() == means.values()


def test_its_columns_stay_apart_from_other_figures() -> None:
    columns = mean_columns({"loss": torch.ones(2)})
    assert without_means({"loss": torch.zeros(2), **columns}).keys() == {"loss"}
    assert columns.keys() != {"loss"}
