"""Denoising errors and the gap between a policy's and a reference's preference (Diffusion-DPO, arXiv 2311.12908).

Shape key: B batch, C channels, H height, W width.
"""

from torch import Tensor

from prefopt.diffusion.schedule import wide_dtype


def denoising_error(prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean over C, H, W (not a sum) of the squared difference, [B] in float32 or wider.

    Raises ValueError if the shapes differ or are not [B, C, H, W].
    """
    if prediction_BCHW.shape != target_BCHW.shape or prediction_BCHW.dim() != 4:
        raise ValueError(
            "prediction and target must share one shape [B, C, H, W], "
            f"got {list(prediction_BCHW.shape)} and {list(target_BCHW.shape)}"
        )
    wide = wide_dtype(prediction_BCHW.dtype)
    return (prediction_BCHW.to(wide) - target_BCHW.to(wide)).square().mean(dim=(1, 2, 3))


def error_gap(reference_w: Tensor, reference_l: Tensor, policy_w: Tensor, policy_l: Tensor) -> Tensor:
    """z = (reference_w - reference_l) - (policy_w - policy_l), [B] in float32 or wider.

    z > 0: the policy separates winner and loser the right way more than the reference does.
    """
    wide = wide_dtype(policy_w.dtype)
    reference_gap = reference_w.to(wide) - reference_l.to(wide)
    return reference_gap - (policy_w.to(wide) - policy_l.to(wide))
