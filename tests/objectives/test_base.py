import pytest
import torch
from pydantic import ValidationError

from prefopt.objectives import OBJECTIVES, PairErrors
from prefopt.objectives.metrics import pair_metrics

ONE = torch.tensor([0.1, 0.2])


def test_gap_by_hand() -> None:
    errors = PairErrors(
        torch.tensor([0.4]), torch.tensor([0.6]), reference_w=torch.tensor([0.5]), reference_l=torch.tensor([0.3])
    )
    assert errors.gap().item() == pytest.approx(0.4)


def test_half_precision_errors_are_widened() -> None:
    half = ONE.to(torch.bfloat16)
    assert PairErrors(half, half, half, half).gap().dtype == torch.float32


@pytest.mark.parametrize("name", ["reference_w", "reference_l"])
def test_missing_reference_is_named(name: str) -> None:
    fields = {"reference_w": ONE, "reference_l": ONE} | {name: None}
    with pytest.raises(ValueError, match=name):
        PairErrors(ONE, ONE, **fields).gap()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy_l", torch.zeros(3)),
        ("reference_w", torch.zeros(2, 1)),
        ("u", torch.tensor(0.5)),
        ("margin_mean", torch.zeros(2)),
        ("annotator_logits", torch.zeros(2)),
        ("annotator_logits", torch.zeros(3, 4)),
    ],
)
def test_a_wrong_shape_is_named(name: str, value: torch.Tensor) -> None:
    fields = {"policy_w": ONE, "policy_l": ONE} | {name: value}
    with pytest.raises(ValueError, match=name):
        PairErrors(**fields)


def test_right_shapes_pass() -> None:
    PairErrors(ONE, ONE, u=ONE, margin_mean=0.5, annotator_logits=torch.zeros(3, 2), timestep=torch.tensor([1, 2]))
    PairErrors(ONE, ONE, margin_mean=torch.tensor(0.5))


def test_ties_count_half_and_drift_is_above_zero_when_the_image_became_less_likely() -> None:
    errors = PairErrors(torch.tensor([0.3, 0.2, 0.2]), torch.full((3,), 0.2), torch.full((3,), 0.2), torch.zeros(3))
    metrics = pair_metrics(errors, torch.tensor([-2.0, 0.0, 1e-9]))
    assert torch.as_tensor(metrics["accuracy"]).tolist() == [0.0, 0.5, 1.0]
    assert torch.as_tensor(metrics["drift_w"]).tolist() == pytest.approx([0.1, 0.0, 0.0])
    assert torch.as_tensor(metrics["drift_l"]).tolist() == pytest.approx([0.2] * 3)
    assert "drift_w" not in pair_metrics(PairErrors(ONE, ONE), ONE)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_records_are_whole(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.name == name
    for field, info in objective.Params.model_fields.items():
        assert info.description, f"{field} has no docstring"
    with pytest.raises(ValidationError):
        objective.Params(surprise=1.0)
    with pytest.raises(ValidationError):
        objective.Params().beta = 1.0
    for beta in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            objective.Params(beta=beta)


def test_foreign_params_are_refused() -> None:
    with pytest.raises(TypeError, match="DpoParams"):
        OBJECTIVES["dpo"](PairErrors(ONE, ONE, ONE, ONE), OBJECTIVES["smpo"].Params())
