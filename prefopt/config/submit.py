"""Where a component's stages run. Nothing here ever enters a key."""

from typing import Annotated, Literal

from pydantic import Field

from prefopt.config.base import Branch

SubmittedStage = Literal["ingest", "score", "train", "evaluate"]


class HereConfig(Branch):
    """In a process of the component's own pod, or of this machine."""

    kind: Literal["here"] = "here"


class ElsewhereConfig(Branch):
    """On a cluster."""

    stages: tuple[SubmittedStage, ...] = ("score", "train", "evaluate")
    """Those that are submitted. All others are light work, and run in their component's own pod."""


class RaySubmitConfig(ElsewhereConfig):
    """On a Ray cluster that runs already, by its Jobs API."""

    kind: Literal["ray"]
    address: str
    """Of the dashboard, for example http://127.0.0.1:8265. A token comes from RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN."""


class KubernetesConfig(ElsewhereConfig):
    """As a RayJob, which the KubeRay operator gives a cluster of its own."""

    kind: Literal["kubernetes"]


SubmitConfig = Annotated[HereConfig | RaySubmitConfig | KubernetesConfig, Field(discriminator="kind")]
