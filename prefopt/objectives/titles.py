"""What objectives are called in print."""

TITLES: dict[str, tuple[str, str]] = {
    "sft": ("SFT on winners", ""),
    "dpo": ("Diffusion-DPO", "2311.12908"),
    "ipo": ("Diffusion-IPO", ""),
    "cdpo": ("Conservative DPO", ""),
    "rdpo": ("Robust DPO", ""),
    "adaptive_dpo": ("Adaptive-DPO", "2503.16921"),
    "adaptive_ipo": ("Adaptive-DPO, IPO variant", "2503.16921"),
    "smpo": ("SmPO-Diffusion", "2506.02698"),
    "kto": ("Diffusion-KTO", "2404.04465"),
    "mapo": ("MaPO", "2406.06424"),
    "inpo": ("DDIM-InPO", "2503.18454"),
    "dmpo": ("DMPO, reconstructed", "2507.07510"),
    "dpo_budget": ("DPO with a budget for the winner", "2411.05875"),
    "dro_dpo": ("DPO under DoRA's weights", "2504.05831"),
    "weighted_dpo": ("Weighted DPO", ""),
}
"""Title and arXiv id, which is empty where there is no paper of the method for diffusion models."""
