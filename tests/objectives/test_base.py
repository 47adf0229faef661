from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from prefopt.config.objective import ObjectiveConfig
from prefopt.objectives import OBJECTIVES, PairErrors, find_objective
from prefopt.objectives.metrics import pair_metrics
from tests.objectives.pairs import evaluate, make, random_table

ONE = torch.tensor([0.1, 0.2])
NAN = float("nan")


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
    with pytest.raises(ValueError, match=f"PairErrors.{name}, which is missing: give the frozen reference's error"):
        PairErrors(ONE, ONE, **fields).gap()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy_w", torch.zeros(2, 1)),
        ("policy_w", torch.tensor(0.0)),
        ("policy_l", torch.zeros(3)),
        ("reference_w", torch.zeros(2, 1)),
        ("u", torch.tensor(0.5)),
        ("u", torch.zeros(3)),
        ("weight", torch.zeros(1)),
        ("margin_mean", torch.zeros(2)),
        ("annotator_logits", torch.zeros(2)),
        ("annotator_logits", torch.zeros(3, 4)),
    ],
)
def test_a_wrong_shape_is_named(name: str, value: torch.Tensor) -> None:
    fields = {"policy_w": ONE, "policy_l": ONE} | {name: value}
    with pytest.raises(ValueError, match=rf"^{name} must have shape \[.*\] with B = \d, got \[.*\]: give "):
        PairErrors(**fields)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("alpha", [0.5, 1.1], r"lie in \[0, 1\], got 1\.1.* at pair 1: give .* reward_preference"),
        ("alpha", [-0.1, NAN], r"lie in \[0, 1\], got -0\.1.* at pair 0"),
        ("alpha", [0.5, NAN], r"lie in \[0, 1\], got nan at pair 1"),
        ("u", [1.5, 0.0], r"lie in \[0, 1\], got 1\.5 at pair 0: give .* minority_metric"),
        ("u", [0.0, NAN], r"lie in \[0, 1\], got nan at pair 1"),
        ("label", [2.0, 0.0], r"lie in \[0, 1\], got 2\.0 at pair 0: give .* share of votes"),
        ("weight", [-1.0, 0.0], r"be finite and at least 0, got -1\.0 at pair 0: give"),
        ("weight", [1.0, float("inf")], r"be finite and at least 0, got inf at pair 1"),
        ("margin", [NAN, 0.0], r"be finite, got nan at pair 0: give .* units of the logit"),
        ("reference_w", [NAN, 0.0], r"be finite, got nan at pair 0: give the frozen"),
        ("reference_l", [0.0, float("-inf")], r"be finite, got -inf at pair 1"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must {said}"):
        PairErrors(ONE, ONE, **{name: torch.tensor(value)})


@pytest.mark.parametrize("value", [NAN, float("inf"), torch.tensor(NAN)])
def test_a_broken_scalar_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^margin_mean must be finite, got (nan|inf): give one number"):
        PairErrors(ONE, ONE, margin_mean=value)
    with pytest.raises(ValueError, match=r"means\['gain'\] must be finite"):
        evaluate("kto", make(random_table(2), means={"gain": value}))
    with pytest.raises(ValueError, match=r"means\['tilt'\] must be finite"):
        evaluate("dro_dpo", make(random_table(2), means={"tilt": value}))


def test_a_mean_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"means\['tilt'\] must be at least 1"):
        evaluate("dro_dpo", make(random_table(2), means={"tilt": 0.5}))


def test_what_a_diverged_policy_breaks_is_left_to_the_loss() -> None:
    """A step with an overflow is skipped by the trainer, not stopped by a check of what follows from the overflow."""
    policy = torch.tensor([float("inf"), 0.2])
    errors = PairErrors(policy, ONE, ONE, ONE, u=torch.tensor([NAN, 0.1]), margin_mean=NAN)
    assert errors.require("u")[1] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at pair 1"):
        PairErrors(policy, ONE, u=torch.tensor([NAN, NAN]))
    with pytest.raises(ValueError, match="at pair 0"):
        PairErrors(policy, ONE, u=torch.tensor([2.0, 0.0]))


NEEDED = [
    (name, field)
    for name, objective in OBJECTIVES.items()
    for need in sorted(objective.needs)
    for field in (("reference_w", "reference_l") if need == "reference" else (need,))
]


@pytest.mark.parametrize(("name", "field"), NEEDED)
def test_missing_side_inputs_are_named(name: str, field: str) -> None:
    params = {"weighted_dpo": {"use": ("weight", "label", "margin")}, "dro_dpo": {"calibration": "weight"}}
    with pytest.raises(ValueError, match=rf"PairErrors\.{field}, which is missing: give "):
        evaluate(name, make(random_table(2), **{field: None}), **params.get(name, {}))


def test_right_inputs_pass() -> None:
    PairErrors(ONE, ONE, u=ONE, margin_mean=0.5, annotator_logits=torch.zeros(3, 2), timestep=torch.tensor([1, 2]))
    PairErrors(ONE, ONE, margin_mean=torch.tensor(0.5), means={"gain": 0.1})
    PairErrors(ONE, ONE, alpha=torch.tensor([0.0, 1.0]), u=torch.tensor([1, 0]), weight=torch.tensor([0.0, 1e9]))
    PairErrors(ONE, ONE, margin=torch.tensor([-1e9, 1e9]))


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
    assert objective.name == name == objective.Params().name
    assert find_objective(name) is objective
    for field, info in objective.Params.model_fields.items():
        assert info.description, f"{field} has no docstring"
    with pytest.raises(ValidationError):
        objective.Params(surprise=1.0)
    for field in ("beta", "ranking", "temperature", "epsilon", "tau", "penalty", "budget", "gamma"):
        for value in (-1.0, NAN, float("inf")) if field in objective.Params.model_fields else ():
            with pytest.raises(ValidationError):
                objective.Params(**{field: value})
    with pytest.raises(ValidationError):
        objective.Params().name = "other"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_config_line_chooses_it(name: str) -> None:
    params = TypeAdapter(ObjectiveConfig).validate_python({"name": name})
    assert type(params) is OBJECTIVES[name].Params
    assert TypeAdapter(ObjectiveConfig).validate_json(params.model_dump_json()) == params


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("dpoo", "dpo"), ("adaptivedpo", "adaptive_dpo"), ("DMPO", "dmpo"), ("weigthed_dpo", "weighted_dpo"), ("x", "")],
)
def test_an_unknown_name_is_told_the_nearest(name: str, nearest: str) -> None:
    said = f"unknown objective name '{name}': did you mean '{nearest}"
    with pytest.raises(ValueError, match=said):
        find_objective(name)
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(ObjectiveConfig).validate_python({"name": name})


def test_a_config_without_a_name_is_told_so() -> None:
    with pytest.raises(ValidationError, match="an objective needs a name, one of sft, dpo"):
        TypeAdapter(ObjectiveConfig).validate_python({"beta": 1.0})


def test_foreign_params_are_refused() -> None:
    with pytest.raises(TypeError, match="DpoParams"):
        OBJECTIVES["dpo"](PairErrors(ONE, ONE, ONE, ONE), OBJECTIVES["smpo"].Params())
