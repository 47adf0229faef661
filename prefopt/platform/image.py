"""The container image: whether the Ray in it is the one that it was built for."""

import importlib.metadata
import os
from collections.abc import Mapping

from prefopt.errors import ConfigError

RAY_VERSION = "PREFOPT_RAY_VERSION"
"""The image sets this variable to the Ray that it was built with. Head, workers and drivers must have the same."""


def check_ray_version(environment: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError if the image's Ray was replaced. Nothing is checked outside an image; Ray is not imported."""
    built = environment.get(RAY_VERSION)
    if not built:
        return
    try:
        installed = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        installed = "none"
    if installed != built:
        raise ConfigError(
            f"This image was built for Ray {built} ({RAY_VERSION}), and Ray {installed} is installed in it: head,"
            " workers and driver would not understand each other. Build the image again (make image), use that tag"
            " everywhere, and take ray out of any pip list of a runtime environment."
        )
