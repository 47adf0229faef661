"""Properties that every pair objective has."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.objectives import OBJECTIVES, PairErrors

error = st.floats(0, 2, width=32)
pair = st.tuples(error, error, error, error, st.floats(0, 1), st.floats(0, 1))
pairs = st.lists(pair, min_size=1, max_size=6).map(lambda rows: torch.tensor(rows, dtype=torch.float64).T)
every = pytest.mark.parametrize("name", OBJECTIVES)


def make(columns: torch.Tensor, **changes: torch.Tensor) -> PairErrors:
    """Rows: policy_w, policy_l, reference_w, reference_l, alpha, u."""
    names = ("policy_w", "policy_l", "reference_w", "reference_l", "alpha", "u")
    fields = dict(zip(names, columns, strict=True)) | {"margin_mean": torch.tensor(0.001)}
    return PairErrors(**(fields | changes))


def evaluate(name: str, errors: PairErrors, **params: float) -> torch.Tensor:
    return OBJECTIVES[name](errors, OBJECTIVES[name].Params(**params)).loss


@every
@given(pairs)
def test_one_batch_of_n_equals_n_batches_of_one(name: str, columns: torch.Tensor) -> None:
    single = [evaluate(name, make(columns[:, i : i + 1])) for i in range(columns.shape[1])]
    whole = evaluate(name, make(columns))
    assert whole.shape == (columns.shape[1],)
    torch.testing.assert_close(torch.cat(single), whole, rtol=1e-10, atol=0)


@every
@given(pairs)
def test_permuting_pairs_permutes_the_result(name: str, columns: torch.Tensor) -> None:
    torch.testing.assert_close(
        evaluate(name, make(columns.flip(1))), evaluate(name, make(columns)).flip(0), rtol=1e-10, atol=0
    )


@every
@given(pairs, st.integers(0, 6))
def test_ranks_weighted_by_pair_count_give_the_single_process_mean(name: str, columns: torch.Tensor, cut: int) -> None:
    size = columns.shape[1]
    parts = [part for part in (columns[:, :cut], columns[:, cut:]) if part.shape[1]]
    mean = sum(evaluate(name, make(part)).mean() * part.shape[1] for part in parts) / size
    torch.testing.assert_close(mean, evaluate(name, make(columns)).mean(), rtol=1e-10, atol=0)


@every
def test_policy_equal_to_reference_has_ties_only(name: str) -> None:
    w, loser = torch.tensor([0.1, 0.7]), torch.tensor([0.4, 0.2])
    errors = PairErrors(w, loser, w, loser, alpha=torch.full((2,), 0.8), u=torch.zeros(2), margin_mean=0.0)
    result = OBJECTIVES[name](errors, OBJECTIVES[name].Params())
    torch.testing.assert_close(result.loss, torch.full((2,), 2.0).log())
    assert torch.as_tensor(result.metrics["accuracy"]).tolist() == [0.5, 0.5]
    assert torch.as_tensor(result.metrics["logit"]).tolist() == [0.0, 0.0]


@every
def test_gradients_agree_with_finite_differences(name: str) -> None:
    columns = torch.rand(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(policy_w: torch.Tensor, policy_l: torch.Tensor) -> torch.Tensor:
        return evaluate(name, make(columns, policy_w=policy_w, policy_l=policy_l), beta=3.0)

    policies = [columns[i].clone().requires_grad_() for i in (0, 1)]
    assert torch.autograd.gradcheck(loss, policies)


@every
def test_gradient_reaches_the_policy_alone(name: str) -> None:
    columns = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).unbind()
    leaves = [column.clone().requires_grad_() for column in columns]
    mean = torch.tensor(0.01, requires_grad=True)
    errors = dataclasses.replace(make(torch.zeros(6, 4)), margin_mean=mean)
    names = ("policy_w", "policy_l", "reference_w", "reference_l", "alpha", "u")
    result = OBJECTIVES[name](
        dataclasses.replace(errors, **dict(zip(names, leaves, strict=True))), OBJECTIVES[name].Params(beta=2.0)
    )
    torch.autograd.backward(result.loss.sum())
    assert all(leaf.grad is not None and leaf.grad.any() for leaf in leaves[:2])
    assert all(leaf.grad is None for leaf in [*leaves[2:], mean])
    assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in result.metrics.values())


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_extreme_errors_give_finite_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    edge = torch.tensor([0.0, 1e-30, 1.0, 1e6])
    policy_w, policy_l, alpha, u = torch.cartesian_prod(
        edge, edge, torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 1.0])
    ).T
    policy = [value.to(dtype).requires_grad_() for value in (policy_w, policy_l)]
    zero = torch.zeros_like(policy[0])
    errors = PairErrors(policy[0], policy[1], zero, zero, alpha=alpha, u=u, margin_mean=torch.tensor(1e6))
    result = OBJECTIVES[name](errors, OBJECTIVES[name].Params())
    gradients = torch.autograd.grad(result.loss.sum(), policy)
    assert result.loss.dtype == torch.promote_types(dtype, torch.float32)
    for value in [result.loss, *gradients, *result.metrics.values()]:
        assert torch.as_tensor(value).isfinite().all()


@every
def test_metrics_are_per_pair(name: str) -> None:
    columns = torch.rand(6, 5, generator=torch.Generator().manual_seed(1))
    metrics = OBJECTIVES[name](make(columns), OBJECTIVES[name].Params()).metrics
    assert {"accuracy", "logit", "error_w", "error_l", "drift_w", "drift_l"} <= set(metrics)
    assert all(torch.as_tensor(value).shape == (5,) for value in metrics.values())
