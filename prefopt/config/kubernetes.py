"""A RayJob's pods, queue and deadlines. Nothing here ever enters a key."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from prefopt import __version__
from prefopt.config.base import Branch, Count, Positive
from prefopt.config.elsewhere import ElsewhereConfig

IMAGE = f"prefopt:{__version__}"
"""The image of this release."""

_OWN_PATHS = ("/tmp", "/dev/shm")
_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|_KEY|_KEY_ID)$")
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]+@")

ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""Of an object of Kubernetes: small letters, digits, dashes and dots."""


def _no_secrets(environment: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is no name of an environment variable")
        if _SECRET.search(name.upper()):
            raise ValueError(f"{name} looks like a secret: put it into a Secret, and the Secret's name under secrets")
        if _PASSWORD.search(value):
            raise ValueError(f"{name} holds a URL with a password: put it into a Secret, and its name under secrets")
    return environment


class PodConfig(Branch):
    """What each pod of a kind reserves."""

    cpus: Positive
    """CPUs, requested and allowed."""
    memory_gb: Count
    """Memory in GiB, requested and allowed; shared memory is a part of it."""
    shared_memory_gb: Count
    """Size of /dev/shm in GiB. Ray's object store takes four fifths of it."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """Whole GPUs."""

    @model_validator(mode="after")
    def _memory_holds_what_is_shared(self) -> "PodConfig":
        if self.shared_memory_gb >= self.memory_gb:
            raise ValueError("shared_memory_gb is a part of memory_gb and must be smaller")
        return self


class HeadConfig(PodConfig):
    """The pod in which the command itself runs, and no work of the cluster."""

    cpus: Positive = 2.0
    memory_gb: Count = 8
    shared_memory_gb: Count = 2


class WorkerConfig(PodConfig):
    """The pods that do the work."""

    number: Count = 1
    """Pods."""
    cpus: Positive = 8.0
    memory_gb: Count = 64
    shared_memory_gb: Count = 16
    gpus: Annotated[int, Field(ge=0)] = 1
    """Whole GPUs of each pod."""


class Toleration(Branch):
    """A taint of nodes that pods bear, as Kubernetes writes it."""

    key: str | None = None
    """Of the taint; by default every one."""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    """Of the taint, for `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """By default each effect."""

    @model_validator(mode="after")
    def _value_is_compared(self) -> "Toleration":
        if (self.value is not None) != (self.operator == "Equal"):
            raise ValueError("a toleration has a value if, and only if, its operator is Equal")
        if self.key is None and self.operator == "Equal":
            raise ValueError("a toleration without a key tolerates everything: its operator is Exists")
        return self


class VolumeConfig(Branch):
    """A volume that all pods of the job see."""

    claim: ObjectName
    """Name of the PersistentVolumeClaim. With several nodes it must be ReadWriteMany."""
    mount_path: Annotated[str, Field(pattern=r"^/[^:]+$")]
    """Where pods see it."""
    read_only: bool = False

    @model_validator(mode="after")
    def _leaves_our_own_paths(self) -> "VolumeConfig":
        path = self.mount_path.rstrip("/")
        if any(path == own or path.startswith(f"{own}/") for own in _OWN_PATHS):
            raise ValueError(f"mount_path {self.mount_path}: {' and '.join(_OWN_PATHS)} are the pod's own")
        return self


class PreemptibleConfig(Branch):
    """Workers that the cloud may take away, for `score`: it loses the units of a lost worker and nothing else."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the preemptible nodes."""
    tolerations: tuple[Toleration, ...] = ()
    """Of the taints of the preemptible nodes."""
    priority: ObjectName | None = None
    """Kueue's WorkloadPriorityClass; by default that of all jobs."""
    most: Count | None = None
    """Workers that Ray's autoscaler may grow to from `workers.number`; by default their number is fixed."""
    autoscaler_account: ObjectName | None = None
    """Service account of the head whose cluster grows: the operator lets it make and delete the cluster's pods. By
    default `service_account`, which all of the job's pods share."""

    @model_validator(mode="after")
    def _an_account_has_work(self) -> "PreemptibleConfig":
        if self.autoscaler_account and self.most is None:
            raise ValueError("autoscaler_account is for a cluster that grows: set most, or leave it out")
        return self


class KubernetesConfig(ElsewhereConfig):
    """As a RayJob, which the KubeRay operator gives a cluster of its own."""

    kind: Literal["kubernetes"]
    namespace: ObjectName | None = None
    """By default that of the pod's service account, or of the kubeconfig's context."""
    image: Annotated[str, Field(pattern=r"^\S+$")] = IMAGE
    """For head, workers and submitter; by default this release's. Its Ray must be this machine's version."""
    image_pull_secrets: tuple[ObjectName, ...] = ()
    """Names of Secrets for the image's registry."""
    service_account: ObjectName | None = None
    """Of the job's pods, for example for access to a bucket; by default the namespace's. It needs no rights at all."""
    user: Count = 10001
    """User and group id of all processes, by default the image's; volumes are given to this group."""

    queue: ObjectName | None = None
    """Kueue's LocalQueue, which admits the job as a whole: all workers or none. By default there is no queue."""
    priority: ObjectName | None = None
    """Kueue's WorkloadPriorityClass."""
    preemptible: PreemptibleConfig | None = None
    """Nodes for the workers of `score`; by default they are like all others."""

    head: HeadConfig = HeadConfig()
    workers: WorkerConfig = WorkerConfig()
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that nodes of all pods must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Of all pods."""
    secrets: tuple[ObjectName, ...] = ()
    """Names of Secrets whose entries become environment variables of head and workers. Nobody here reads them."""
    environment: Annotated[dict[str, str], AfterValidator(_no_secrets)] = Field(default_factory=dict)
    """Variables of head and workers that anyone may read, for example AWS_ENDPOINT_URL or HF_HOME."""
    volumes: tuple[VolumeConfig, ...] = ()
    """Seen by head and workers."""
    auth: Literal["token", "disabled"] = "token"
    """Ray's own authentication. The operator makes the token; without one whoever reaches the pods may run anything."""

    ttl_seconds: Annotated[int, Field(ge=0)] = 60
    """How long the cluster's pods stay after the end. Their GPUs do nothing until then."""
    deadline_seconds: Count = 86_400
    """From the first start to the end of the job; a day by default."""
    pre_running_seconds: Count = 1_800
    """Until the cluster runs: nodes are made and images pulled in this time."""
    suspended_seconds: Positive = 86_400.0
    """How long Kueue may keep the job waiting, each time that it does."""

    @model_validator(mode="after")
    def _a_queue_admits_a_fixed_size(self) -> "KubernetesConfig":
        most = self.preemptible.most if self.preemptible else None
        if most is not None and most < self.workers.number:
            raise ValueError(f"preemptible.most {most} is less than workers.number {self.workers.number}")
        if most is not None and self.queue is not None:
            raise ValueError("preemptible.most: Kueue admits a RayJob as a whole, which then cannot grow; leave it out")
        if self.queue is None and (self.priority or (self.preemptible and self.preemptible.priority)):
            raise ValueError("priority is Kueue's: it needs a queue")
        return self

    @model_validator(mode="after")
    def _each_path_is_mounted_once(self) -> "KubernetesConfig":
        paths = [volume.mount_path.rstrip("/") for volume in self.volumes]
        if len(set(paths)) < len(paths):
            raise ValueError("volumes: two of them have the same mount_path")
        return self
