"""Latents of images: the energy distance by hand, and which pairs are compared."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.nn.functional import adaptive_avg_pool2d

from prefopt.data.ids import row_normal
from prefopt.drift.chance import Chance, Measured, Unmeasured
from prefopt.drift.pictures import Pictures, distance_sums, energies, image_drift, one_of_each_prompt, pooled
from tests.kit.drift import vectors


def test_the_energy_distance_by_hand() -> None:
    """Known images at 0 and 1, new ones at 2 and 3: 2 x 2 - 1/2 - 1/2 = 3."""
    sums = distance_sums(np.array([[0.0], [2.0], [1.0], [3.0]]), np.array([0, 1, 0, 1]))
    assert sums == pytest.approx(np.array([[2.0, 8.0], [8.0, 2.0]]))
    assert energies(sums, np.array([2.0, 2.0]), np.array([[False, True], [True, False]])) == pytest.approx([3.0, 3.0])


def test_sums_of_distances_are_those_of_scipy() -> None:
    rows, unit = row_normal((600, 5), 0, "rows"), np.arange(600) % 7
    apart = cdist(rows, rows)
    wanted = [[apart[np.ix_(unit == a, unit == b)].sum() for b in range(7)] for a in range(7)]
    assert distance_sums(rows, unit) == pytest.approx(np.array(wanted), rel=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (9, 13), (72, 56), (4, 6)])
def test_latents_are_averaged_as_torch_does(size: tuple[int, int]) -> None:
    latents = row_normal((3, 4, *size), 0, "latents")
    grid = min(8, size[0]), min(8, size[1])
    wanted = adaptive_avg_pool2d(torch.from_numpy(latents), grid).flatten(1).numpy()
    assert pooled(latents, *grid) == pytest.approx(wanted, abs=1e-5)


def test_one_pair_of_a_prompt_of_one_side_and_all_of_both_sides() -> None:
    prompts = ["x", "x", "y", "y", "y", "z"]
    assert one_of_each_prompt(prompts, np.array([0, 0, 0, 1, 0, 1], dtype=bool)).tolist() == [0, 2, 3, 4, 5]


def pictures(known: int, new: int, shift: float, seed: int = 0) -> Pictures:
    places = np.concatenate([vectors(known, 0.0, seed), vectors(new, shift, seed + 1)])
    names = [f"{number:04d}" for number in range(known + new)]
    return Pictures(names, names, np.arange(known + new) >= known, places)


def test_a_shift_is_measured_in_units_of_the_spread() -> None:
    near, far = (image_drift(pictures(150, 60, shift), Chance(199)) for shift in (0.0, 2.0))
    assert isinstance(near, Measured)
    assert isinstance(far, Measured)
    assert near.figures["distance"] > near.value
    assert near.p > 0.01
    assert far.p == pytest.approx(1 / 200)
    assert far.figures["spread"] == pytest.approx(np.sqrt(2 * 16), rel=0.05)
    # |X - Y| is near sqrt(2 * 16 + 16 * 2^2), |X - X'| near sqrt(2 * 16): the root of 2 (sqrt(3) - 1)
    assert far.value == pytest.approx(np.sqrt(2 * (np.sqrt(3) - 1)), abs=0.1)
    assert (far.known, far.new) == (300, 120)


def test_the_unit_of_latents_does_not_matter() -> None:
    made = pictures(60, 40, 0.5)
    larger = Pictures(made.prompts, made.pairs, made.new, made.vectors * 7.0 + 3.0)
    first, second = (image_drift(one, Chance(99)) for one in (made, larger))
    assert isinstance(first, Measured)
    assert isinstance(second, Measured)
    assert (second.value, second.p) == (pytest.approx(first.value, abs=1e-5), first.p)


def test_few_or_equal_images_are_not_compared() -> None:
    few = image_drift(pictures(60, 9, 0.0), Chance(99))
    assert isinstance(few, Unmeasured)
    assert few.reason.startswith("there are 18 new images with stored latents")
    made = pictures(60, 40, 0.0)
    equal = image_drift(Pictures(made.prompts, made.pairs, made.new, np.zeros((100, 2, 3))), Chance(99))
    assert isinstance(equal, Unmeasured)
    assert "the same latent" in equal.reason
