import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import ema_decay, ema_update


@given(st.floats(0, 1), st.booleans())
def test_first_update_copies(decay: float, ramp: bool) -> None:
    assert ema_decay(0, decay, ramp) == 0.0
    value = torch.tensor([0.1, -3e-7, 1e20])
    assert torch.equal(ema_update(torch.randn(3), value, ema_decay(0, decay, ramp)), value)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_ramp_caps_the_decay(n: int, decay: float) -> None:
    assert ema_decay(n, decay, ramp=True) == min(decay, (1 + n) / (10 + n))
    assert ema_decay(n, decay, ramp=False) == decay


def test_ramp_of_the_public_runs() -> None:
    assert ema_decay(1000, 0.9999) == pytest.approx(1001 / 1010)
    assert ema_decay(89_990, 0.9999) == pytest.approx(0.9999, abs=1e-12)
    assert ema_decay(89_000, 0.9999) < 0.9999
    assert [ema_decay(n, 0.5) for n in (7, 8, 9)] == [8 / 17, 0.5, 0.5]


@pytest.mark.parametrize("ramp", [True, False])
def test_constant_parameters_are_a_fixed_point(ramp: bool) -> None:
    value = torch.randn(50, generator=torch.Generator().manual_seed(0))
    shadow = torch.zeros(50)
    for n in range(20):
        shadow = ema_update(shadow, value, ema_decay(n, 0.9999, ramp))
        assert torch.equal(shadow, value)


@given(st.integers(0, 50), st.floats(0.1, 0.9999))
def test_without_ramp_the_shadow_follows_a_geometric_law(updates: int, decay: float) -> None:
    shadow, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for n in range(1, updates + 1):
        shadow = ema_update(shadow, one, ema_decay(n, decay, ramp=False))
    assert shadow.item() == pytest.approx(1 - decay**updates, abs=1e-12)


def test_shadow_keeps_its_dtype_and_carries_no_gradient() -> None:
    value = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    shadow = ema_update(torch.zeros(2), value, 0.9999)
    assert shadow.dtype == torch.float32
    assert not shadow.requires_grad
    assert shadow.tolist() == pytest.approx([1e-4, 1e-4])


@pytest.mark.parametrize(("n", "decay"), [(-1, 0.5), (1, 1.5), (1, -0.1)])
def test_bad_arguments_are_refused(n: int, decay: float) -> None:
    with pytest.raises(ValueError, match="need n"):
        ema_decay(n, decay)
