"""Where the work runs. Nothing here ever enters a key: results do not depend on it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Count, Positive
from prefopt.config.submit import HereConfig, SubmitConfig


class ClusterConfig(Branch):
    """Where work runs."""

    engine: Literal["ray", "process"] = "ray"
    """`ray`: stages spread their work over the workers of Ray. `process`: each stage works in its own process, one unit
    after the other and with one training worker, and Ray is never started: for small data, where starting workers
    takes longer than their work, and for debuggers. A process that dies is not begun again by itself."""
    address: str | None = None
    """Address of a running Ray cluster; by default a local Ray is started and ended."""
    cpus: Count | None = None
    """CPUs of the local Ray; by default all of this machine's."""
    workers: Count = 2
    """Actors per model pool, and concurrent tasks."""
    worker_cpus: Positive = 0.5
    """CPUs that each actor reserves. A pool never reserves every CPU: reading needs some."""
    worker_gpus: Annotated[float, Field(ge=0.0)] = 0.0
    gpu_memory_gb: Positive | None = None
    """Memory of one GPU in GiB, for `train.zero: auto` and `prefopt plan` where the driver sees none of the GPUs."""
    gpus_per_node: Count = 8
    """Training workers on one machine."""
    threads: Count = 1
    """Threads of each worker's numerical libraries."""
    object_store_mb: Count = 400
    """Ray's shared memory on the local machine."""

    submit: SubmitConfig = HereConfig()
    """Where pipelines run the stages that need a cluster."""

    @model_validator(mode="after")
    def _one_place(self) -> "ClusterConfig":
        if self.engine == "process" and self.submit.kind != "here":
            raise ValueError(
                "engine: process works in this process, but submit sends stages to a cluster: leave one out"
            )
        return self

    @property
    def device(self) -> str:
        """Where actors put their models."""
        return "cuda" if self.worker_gpus else "cpu"
