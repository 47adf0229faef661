import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefopt.diffusion import mix_weights, negative_guidance, weight_offset


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_guidance_by_hand() -> None:
    """guidance_scale 7.5 is w = 6.5: 7.5 * 2 - 6.5 * 1."""
    assert negative_guidance(torch.tensor([2.0]), torch.tensor([1.0]), 6.5).tolist() == [8.5]


@given(st.floats(0, 20))
def test_guidance_is_the_pipelines_with_the_negative_model_in_the_empty_prompts_place(w: float) -> None:
    positive, negative = normal(2, 4, 3, 3), normal(2, 4, 3, 3, seed=1)
    pipelines = negative + (w + 1) * (positive - negative)
    torch.testing.assert_close(negative_guidance(positive, negative, w), pipelines)
    assert torch.equal(negative_guidance(positive, negative, 0.0), positive)


def test_guidance_is_computed_wide_and_keeps_the_dtype() -> None:
    high = torch.full((1,), 60_000.0, dtype=torch.float16)
    assert negative_guidance(high, high, 6.5).tolist() == [60_000.0]
    assert negative_guidance(high, high, 6.5).dtype == torch.float16
    with pytest.raises(ValueError, match="one shape"):
        negative_guidance(normal(2), normal(3), 1.0)


def models() -> tuple[dict[str, torch.Tensor], ...]:
    return tuple({"a": normal(3, 2, seed=i), "b": normal(2, seed=i + 10)} for i in range(3))


def test_mixing_by_hand() -> None:
    theta, eta, delta = ({"a": torch.tensor([value])} for value in (1.0, 10.0, 100.0))
    assert mix_weights(theta, eta, delta, 0.5, 2.0)["a"].tolist() == [1 + 5 + 200]


def test_mixing_ends() -> None:
    base, positive, negative = models()
    eta, delta = weight_offset(positive, base), weight_offset(negative, base)
    for a, b, expected in ((0.0, 0.0, base), (1.0, 0.0, positive), (0.0, 1.0, negative)):
        mixed = mix_weights(base, eta, delta, a, b)
        assert mixed.keys() == base.keys()
        for name in base:
            torch.testing.assert_close(mixed[name], expected[name])


@given(st.floats(0, 1))
def test_public_merge_weight_is_one_minus_a(merge_weight: float) -> None:
    """The public script: merge_weight of the base and the rest of the positive model, then the negative offset."""
    base, positive, negative = models()
    delta = weight_offset(negative, base)
    public = {name: merge_weight * base[name] + (1 - merge_weight) * positive[name] + delta[name] for name in base}
    mixed = mix_weights(base, weight_offset(positive, base), delta, 1 - merge_weight, 1.0)
    for name in base:
        torch.testing.assert_close(mixed[name], public[name])


def test_weights_without_an_offset_stay_and_small_offsets_survive_half_precision() -> None:
    theta = {"a": torch.ones(1, dtype=torch.bfloat16), "b": torch.ones(1, dtype=torch.bfloat16)}
    small = {"a": torch.full((1,), 2e-3, dtype=torch.bfloat16)}
    mixed = mix_weights(theta, small, small, 1.0, 1.0)
    assert mixed["b"].item() == 1.0
    assert mixed["a"].dtype == torch.bfloat16
    assert mixed["a"].item() == pytest.approx(1.0 + 2 * small["a"].item(), abs=2**-8)
    assert mixed["a"].item() > 1.0


def test_weights_of_another_model_are_refused() -> None:
    theta = {"a": torch.zeros(2)}
    with pytest.raises(ValueError, match="eta names the weight b"):
        mix_weights(theta, {"b": torch.zeros(2)}, {}, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"delta's weight a has shape \[3\], the base's \[2\]"):
        mix_weights(theta, {}, {"a": torch.zeros(3)}, 1.0, 1.0)
    with pytest.raises(ValueError, match="tuned lacks the weights a"):
        weight_offset({}, theta)
    with pytest.raises(ValueError, match="tuned names the weight c"):
        weight_offset({"c": torch.zeros(2)}, theta)
