"""prefopt: align text-to-image diffusion models with human preferences that are noisy and diverse."""

__version__ = "0.1.0"
