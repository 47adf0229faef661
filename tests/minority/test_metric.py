import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.minority import crowd_margin, minority_metric, reference_scale
from prefopt.minority.weights import linear

logits = st.lists(
    st.tuples(*[st.floats(-20, 20, allow_subnormal=False)] * 3),
    min_size=1,
    max_size=6,
).map(lambda rows: torch.tensor(rows, dtype=torch.float64).T)


def test_worked_example() -> None:
    metric = minority_metric(15 * torch.tensor([[0.25, 1.0], [0.20, 1.0], [0.22, -1.0]], dtype=torch.float64))
    assert 1 - metric.confidence[0].item() == pytest.approx(0.964675, abs=5e-7)
    assert metric.stability[0].item() == pytest.approx(0.377492, abs=5e-7)
    assert metric.u[0].item() == pytest.approx(0.013335, abs=5e-7)
    assert linear(metric.u)[0].item() == pytest.approx(0.882341, abs=5e-7)
    assert 1 - metric.confidence[1].item() == pytest.approx(2 / 3, abs=1e-6)
    assert metric.stability[1].item() == 1.0
    assert metric.u[1].item() == pytest.approx(1 / 3, abs=1e-6)


@given(logits)
def test_u_is_the_product_and_lies_in_the_unit_interval(a_MB: torch.Tensor) -> None:
    confidence, stability, u = minority_metric(a_MB)
    assert torch.equal(u, confidence * stability)
    assert ((u >= 0) & (u < 1)).all()
    assert ((stability >= 0) & (stability <= 1)).all()


@given(logits)
def test_u_of_both_labels_adds_up_to_stability(a_MB: torch.Tensor) -> None:
    metric, opposite = minority_metric(a_MB), minority_metric(-a_MB)
    torch.testing.assert_close(opposite.stability, metric.stability)
    torch.testing.assert_close(metric.u + opposite.u, metric.stability)
    torch.testing.assert_close(metric.confidence + opposite.confidence, torch.ones_like(metric.u))


@given(st.floats(-1e6, 1e6, width=32), st.integers(2, 6))
def test_agreeing_annotators_give_no_u(value: float, num_annotators: int) -> None:
    assert minority_metric(torch.full((num_annotators, 2), value)).u.tolist() == [0.0, 0.0]


@given(logits, st.integers(0, 2), st.floats(1e-3, 1e3))
def test_an_annotators_own_scale_does_not_matter(z_MB: torch.Tensor, annotator: int, factor: float) -> None:
    z_MB = torch.where(z_MB.abs() < 1e-3, 1e-3, z_MB)
    scaled = z_MB.clone()
    scaled[annotator] *= factor
    torch.testing.assert_close(
        minority_metric(reference_scale(scaled, 15.0)).u, minority_metric(reference_scale(z_MB, 15.0)).u
    )


@given(logits)
def test_order_of_annotators_and_pairs_does_not_matter(a_MB: torch.Tensor) -> None:
    u = minority_metric(a_MB).u
    torch.testing.assert_close(minority_metric(a_MB.flip(0)).u, u)
    torch.testing.assert_close(minority_metric(a_MB.flip(1)).u, u.flip(0), rtol=1e-12, atol=1e-15)
    single = [minority_metric(a_MB[:, i : i + 1]).u for i in range(a_MB.shape[1])]
    torch.testing.assert_close(torch.cat(single), u, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_logits_never_give_nan(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    column = torch.tensor([0.0, -0.0, largest, -largest, torch.finfo(dtype).tiny, 1e4], dtype=dtype)
    grid = torch.cartesian_prod(column, column, column).T
    metric = minority_metric(grid)
    for value in metric:
        assert value.dtype == torch.promote_types(dtype, torch.float32)
        assert ((value >= 0) & (value <= 1)).all()


@pytest.mark.parametrize("shape", [(1, 4), (0, 4), (4,)])
def test_fewer_than_two_annotators_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="annotator"):
        minority_metric(torch.zeros(shape))


def test_crowd_margin_by_hand() -> None:
    margin = crowd_margin(torch.tensor([3, 0, 2]), torch.tensor([0, 1, 2]))
    assert margin.tolist() == pytest.approx([math.log(7), -math.log(3), 0.0])
