import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.models.ema import EmaShadow


def _walk(steps: int, seed: int) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    value = [torch.zeros(3, 2), torch.ones(4)]
    walk = []
    for _ in range(steps):
        value = [v + 0.1 * torch.randn(v.shape, generator=generator) for v in value]
        walk.append(value)
    return walk


@given(st.floats(0.0, 0.9999), st.booleans(), st.integers(1, 30), st.integers(0, 5))
def test_equals_a_plain_loop_in_float64(decay: float, ramp: bool, steps: int, seed: int) -> None:
    walk = _walk(steps, seed)
    shadow = EmaShadow(walk[0], decay, ramp)
    expected = [v.double() for v in walk[0]]
    for n, values in enumerate(walk):
        shadow.update(values)
        keep = 0.0 if n == 0 else min(decay, (1 + n) / (10 + n)) if ramp else decay
        expected = [keep * old + (1 - keep) * new.double() for old, new in zip(expected, values, strict=True)]
    for tensor, plain in zip(shadow.tensors, expected, strict=True):
        assert torch.allclose(tensor.double(), plain, rtol=0, atol=1e-5)


def test_first_update_copies_and_the_second_is_worked_by_hand() -> None:
    shadow = EmaShadow([torch.tensor([5.0])], decay=0.5, ramp=True)
    shadow.update([torch.tensor([1.0])])
    assert shadow.tensors[0].item() == 1.0
    shadow.update([torch.tensor([2.0])])
    assert shadow.tensors[0].item() == pytest.approx(2 / 11 * 1.0 + 9 / 11 * 2.0)


def test_small_updates_to_half_precision_weights_are_not_lost() -> None:
    shadow = EmaShadow([torch.ones(1, dtype=torch.bfloat16)], decay=0.999, ramp=False)
    shadow.update([torch.ones(1, dtype=torch.bfloat16)])
    for _ in range(100):
        shadow.update([torch.full((1,), 1.0078125, dtype=torch.bfloat16)])
    assert shadow.tensors[0].item() == pytest.approx(1 + 0.0078125 * (1 - 0.999**100), rel=1e-6)


def test_state_continues_exactly() -> None:
    walk = _walk(6, 0)
    whole, first = (EmaShadow(walk[0], 0.9, True) for _ in range(2))
    for values in walk:
        whole.update(values)
    for values in walk[:3]:
        first.update(values)
    rest = EmaShadow(walk[0], 0.9, True)
    rest.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    for values in walk[3:]:
        rest.update(values)
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors, rest.tensors, strict=True))


@pytest.mark.parametrize("values", [[torch.zeros(2)], [torch.zeros(2), torch.zeros(4)]])
def test_state_of_another_model_is_refused(values: list[torch.Tensor]) -> None:
    state = EmaShadow([torch.zeros(2), torch.zeros(3)], 0.9, True).state_dict()
    with pytest.raises(ValueError, match="the saved average"):
        EmaShadow(values, 0.9, True).load_state_dict(state)
