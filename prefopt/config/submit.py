"""Where a component's stages run. Nothing here ever enters a key."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch
from prefopt.config.elsewhere import ElsewhereConfig
from prefopt.config.kubernetes import KubernetesConfig


class HereConfig(Branch):
    """In a process of the component's own pod, or of this machine."""

    kind: Literal["here"] = "here"


class RaySubmitConfig(ElsewhereConfig):
    """On a Ray cluster that runs already, by its Jobs API."""

    kind: Literal["ray"]
    address: str
    """Of the dashboard, for example http://127.0.0.1:8265. A token comes from RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN."""


SubmitConfig = Annotated[HereConfig | RaySubmitConfig | KubernetesConfig, Field(discriminator="kind")]
"""Where the work runs. Nothing here ever enters a key: results do not depend on it."""
