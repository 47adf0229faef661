import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import MARGINS, margin
from prefopt.minority.margins import MarginScale


@pytest.mark.parametrize(
    ("power", "scale", "expected"),
    [
        (2, "published", -0.25 / 1000 + 0.002),
        (1, "published", -0.5 / 1000 + 0.002),
        (2, "logit", -0.25 + 2.0),
        (1, "logit", -0.5 + 2.0),
    ],
)
def test_margin_by_hand(power: int, scale: MarginScale, expected: float) -> None:
    assert margin(torch.tensor([0.5]).double(), 0.002, 1000.0, power, scale).item() == pytest.approx(expected)


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(1, 1e4), st.sampled_from(sorted(MARGINS.values())))
def test_logit_scale_is_k_times_the_published_one(u: float, mean_z0: float, k: float, power: int) -> None:
    u_B = torch.tensor([u], dtype=torch.float64)
    published = margin(u_B, mean_z0, k, power, "published")
    torch.testing.assert_close(k * published, margin(u_B, mean_z0, k, power, "logit"))


def test_smaller_u_gives_a_larger_margin() -> None:
    values = margin(torch.linspace(0, 1, 11), 0.0, 1000.0, MARGINS["quadratic"], "logit")
    assert (values.diff() < 0).all()


def test_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale"):
        margin(torch.zeros(1), 0.0, 1000.0, 2, "paper")  # type: ignore[arg-type]
