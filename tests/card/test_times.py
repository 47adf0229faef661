import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.card.times import BINS, TimeBins, moments

NOON = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01 12:00:00", "2024-05-01T12:00:00Z", "2024-05-01T14:00:00+02:00", f"{NOON:.0f}", f"{1e3 * NOON:.0f}",
        f"{1e6 * NOON:.0f}",
    ],
)  # fmt: skip
def test_moments(text: str) -> None:
    assert moments([text]).tolist() == [NOON]


@pytest.mark.parametrize("text", ["", None, "soon", "nan", "inf", "2024-13-01", "9" * 400, "0001-01-01T00:00:00+23:00"])
def test_what_is_no_moment(text: str | None) -> None:
    (moment,) = moments([text])
    assert np.isnan(moment) or moment < 0


def test_bins_hold_equally_many_votes() -> None:
    at = np.arange(1000.0)
    bins = TimeBins.of(at)
    assert len(bins) == BINS
    assert set(np.bincount(bins.place(at)).tolist()) == {125}
    assert bins.place(np.array([-5.0, 2e9, np.nan])).tolist() == [0, BINS - 1, BINS]


@pytest.mark.parametrize("at", [np.empty(0), np.arange(30.0), np.full(1000, np.nan), np.full(1000, 7.0)])
def test_too_little_to_cut(at: np.ndarray) -> None:
    bins = TimeBins.of(at)
    assert len(bins) == 0
    assert bins.names() == []
    assert bins.place(at).tolist() == [0] * len(at)


@given(st.lists(st.floats(0, 1e6), min_size=60, max_size=200))
def test_every_moment_has_a_bin(values: list[float]) -> None:
    at = np.array(values)
    bins = TimeBins.of(at)
    places = bins.place(at)
    assert places.min() >= 0
    assert places.max() <= max(len(bins) - 1, 0)
    assert len(bins.names()) == len(bins)


def test_names_are_as_fine_as_the_time_that_passed() -> None:
    def names(days: float) -> list[str]:
        return TimeBins.of(NOON + 86_400 * days * np.arange(200.0) / 200).names()

    assert names(400)[0] == "2024-05-01"
    assert names(1)[:2] == ["05-01 12:00", "05-01 14:59"]
    assert TimeBins.of(np.arange(200.0)).names()[1] == "24.875"
