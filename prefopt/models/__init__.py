"""Loading, adapting and exporting Stable Diffusion models."""
