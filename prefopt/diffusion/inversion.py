"""DDIM inversion with re-noising: from a clean latent to the noisy latent that denoises to it.

ReNoise (arXiv 2403.14602). From the latent z_p at level p to the next level t: y = z_p; for i = 0, 1, ..., R:
e_i = eps(y, t), y = step(e_i, z_p); the step taken starts from z_p with the mean of e_i over a range of i. R = 0 is
plain DDIM inversion, R = 1 with the mean of both is what SmPO-Diffusion (arXiv 2506.02698) does, and the last e alone
is the fixed-point iteration of y = step(eps(y, t), z_p), which DDIM sampling undoes.

Shape key: B batch, C channels, H height, W width.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from prefopt.diffusion.regularise import NoiseRegularisation, regularise_noise
from prefopt.diffusion.schedule import (
    NoiseSchedule,
    PredictionType,
    add_noise,
    check_prediction_type,
    mix,
    to_epsilon,
    wide_dtype,
)

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x [B, C, H, W], t int64 [B]) to the model output [B, C, H, W]; the prompt is already bound."""

Grid = Literal["exact", "reference"]

_Treat = Callable[[Tensor], Tensor]


class _Step(NamedTuple):
    t: Tensor
    """Level to query and to reach, int64 [B]."""
    ab_from: Tensor
    ab_to: Tensor
    active: Tensor | None
    """bool [B]: which samples move; None means all."""


def ddim_step(x_BCHW: Tensor, epsilon_BCHW: Tensor, ab_from_B: Tensor, ab_to_B: Tensor) -> Tensor:
    """Deterministic DDIM step between two noise levels, in either direction; [B, C, H, W], float32 or wider.

    sqrt(to/from) x + (sqrt(1 - to) - sqrt(to (1 - from) / from)) epsilon, levels float64 [B]; 1 is clean data.
    A step to the same level returns x unchanged.
    """
    ratio = (ab_to_B / ab_from_B).sqrt()
    return mix(x_BCHW, ratio, epsilon_BCHW, (1 - ab_to_B).sqrt() - ratio * (1 - ab_from_B).sqrt())


def exact_levels(t_B: Tensor, num_steps: int) -> Tensor:
    """The exact grid, int64 [num_steps, B]: level i = 1..n of a sample is ceil((t + 1) i / n) - 1.

    Counting clean data as level -1, the levels are evenly spaced from there and the last is t itself. If t + 1 < n
    some levels repeat; a step between equal levels changes nothing. t = 999, n = 5: 199, 399, 599, 799, 999.
    """
    i_N1 = torch.arange(1, num_steps + 1, device=t_B.device).unsqueeze(1)
    return ((t_B + 1) * i_N1 + num_steps - 1) // num_steps - 1


def reference_levels(num_steps: int, num_train_steps: int) -> list[int]:
    """The published leading grid with offset 1: i (T // n) + 1 for i = 0..n-1. n = 5: 1, 201, 401, 601, 801."""
    return [i * (num_train_steps // num_steps) + 1 for i in range(num_steps)]


def level_counts(t_B: Tensor, num_steps: int, num_train_steps: int, grid: Grid) -> Tensor:
    """How many levels of its grid each sample passes on its way to t, int64 [B]: what its inversion costs.

    `exact`: num_steps; `reference`: the levels strictly below t.
    """
    if grid == "exact":
        return torch.full_like(t_B, num_steps)
    levels = torch.tensor(reference_levels(num_steps, num_train_steps), device=t_B.device)
    return (levels < t_B.unsqueeze(-1)).sum(dim=-1)


@torch.no_grad()
def invert(
    predict: Predict,
    x0_BCHW: Tensor,
    t_B: Tensor,
    schedule: NoiseSchedule,
    *,
    num_steps: int,
    renoise_steps: int = 1,
    average: tuple[int, int] | None = None,
    grid: Grid = "exact",
    prediction_type: PredictionType = "epsilon",
    regularisation: NoiseRegularisation | None = None,
) -> Tensor:
    """x_t [B, C, H, W] in x0's dtype, for one level t per sample; costs (renoise_steps + 1) calls per grid level.

    `average` is the range lo, ..., hi - 1 of predictions whose mean takes the step; by default all, 0, ...,
    renoise_steps. Predictions from hi on would go unused and are not made. `regularisation` treats that mean, and
    every prediction from lo on before it leads to the next one; it costs one call more per level.
    `exact` (prefopt): every sample takes num_steps steps on its own grid (see `exact_levels`), from clean data to
    exactly t. `reference` (SmPO's public code, which handles one pair at a time): only levels of the common grid
    strictly below t are used, so the result sits at the last of them although it is meant for t; for t <= 1 it is
    x0; the start counts as level 0, not as clean data. Samples are independent of each other in both. A batch costs
    what its highest t costs: put samples of like `level_counts` together.
    The state is kept in float32 or wider; `predict` receives x0's dtype. No gradient is recorded.
    Raises ValueError for a bad t, num_steps outside 1..T, negative renoise_steps, an empty or unreachable average,
    unknown grid or prediction type, or regularising noise of another shape.
    """
    schedule.check(t_B)
    check_prediction_type(prediction_type)
    if not 1 <= num_steps <= schedule.num_steps:
        raise ValueError(f"num_steps must lie in 1..{schedule.num_steps}, got {num_steps}")
    if grid not in get_args(Grid):
        raise ValueError(f"grid must be one of {get_args(Grid)}, got {grid!r}")
    window = _window(renoise_steps, average)

    def ask(x: Tensor, level_B: Tensor) -> Tensor:
        query = x.to(x0_BCHW.dtype)
        return to_epsilon(predict(query, level_B), query, level_B, schedule, prediction_type)

    treat = _regulariser(ask, x0_BCHW, schedule, regularisation)
    steps = _exact_steps if grid == "exact" else _reference_steps
    x = x0_BCHW.to(wide_dtype(x0_BCHW.dtype))
    for step in steps(t_B, schedule, num_steps):
        y = _renoise(ask, x, step, window, treat(step.t))
        x = y if step.active is None else torch.where(step.active.reshape(-1, 1, 1, 1), y, x)
    return x.to(x0_BCHW.dtype)


def _window(renoise_steps: int, average: tuple[int, int] | None) -> tuple[int, int]:
    if renoise_steps < 0:
        raise ValueError(f"renoise_steps must be at least 0, got {renoise_steps}")
    low, high = average or (0, renoise_steps + 1)
    if not 0 <= low < high <= renoise_steps + 1:
        most = renoise_steps + 1
        raise ValueError(f"average must be lo, hi with 0 <= lo < hi <= renoise_steps + 1 = {most}, got {average}")
    return low, high


def _renoise(ask: Predict, x: Tensor, step: _Step, window: tuple[int, int], treat: _Treat) -> Tensor:
    low, high = window
    y, total = x, torch.zeros_like(x)
    for i in range(high):
        epsilon = ask(y, step.t)
        total = total + epsilon if i >= low else total
        used = total / (high - low) if i == high - 1 else epsilon
        y = ddim_step(x, treat(used) if i >= low else used, step.ab_from, step.ab_to)
    return y


def _regulariser(
    ask: Predict, x0: Tensor, schedule: NoiseSchedule, how: NoiseRegularisation | None
) -> Callable[[Tensor], _Treat]:
    """For a level, the treatment of predictions made there."""
    if how is None:
        return lambda level_B: lambda epsilon: epsilon
    if how.noise.shape != x0.shape:
        raise ValueError(f"regularisation.noise must have x0's shape {list(x0.shape)}, got {list(how.noise.shape)}")
    settings, generator = how, torch.Generator().manual_seed(how.seed)

    def at(level_B: Tensor) -> _Treat:
        target = ask(add_noise(x0, settings.noise.to(x0.device), level_B, schedule), level_B)
        return lambda epsilon: regularise_noise(epsilon, target, settings, generator)

    return at


def _exact_steps(t_B: Tensor, schedule: NoiseSchedule, num_steps: int) -> Iterator[_Step]:
    ab_from = torch.ones_like(t_B, dtype=torch.float64)
    for level_B in exact_levels(t_B, num_steps):
        ab_to = schedule.levels(level_B)
        yield _Step(level_B, ab_from, ab_to, None)
        ab_from = ab_to


def _reference_steps(t_B: Tensor, schedule: NoiseSchedule, num_steps: int) -> Iterator[_Step]:
    highest = max(t_B.tolist(), default=0)
    ab_from = schedule.levels(torch.zeros_like(t_B))
    for level in reference_levels(num_steps, schedule.num_steps):
        if level >= highest:
            return
        level_B = torch.full_like(t_B, level)
        ab_to = schedule.levels(level_B)
        yield _Step(level_B, ab_from, ab_to, t_B > level)
        ab_from = ab_to
