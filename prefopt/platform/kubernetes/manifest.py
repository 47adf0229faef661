"""A job as a RayJob (ray.io/v1): what the operator is asked to run. Pure: one job and config, one manifest."""

import shlex
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from prefopt.config.kubernetes import KubernetesConfig, PreemptibleConfig
from prefopt.platform.jobs import Job
from prefopt.platform.kubernetes.labels import job_labels
from prefopt.platform.kubernetes.pods import head_template, submitter_template, worker_template

API_GROUP, API_VERSION, KIND, PLURAL = "ray.io", "v1", "RayJob", "rayjobs"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
SUBMISSION_ANNOTATION = "prefopt.io/submission"
PREEMPTIBLE_STAGES = frozenset({"score"})
_OBJECT_STORE_SHARE = 0.8
_GIB = 1 << 30

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """The pod with which the job is to vanish. It lies in the job's namespace."""

    name: str
    uid: str


def ray_job(job: Job, config: KubernetesConfig, owner: Owner | None = None, submission: str = "") -> Manifest:
    """The RayJob that runs `prefopt` with the job's arguments, without its namespace. By `submission` its maker knows
    it again."""
    preemptible = config.preemptible if job.arguments[:1] and job.arguments[0] in PREEMPTIBLE_STAGES else None
    metadata: Manifest = {"name": job.name, "labels": _labels(job, config, preemptible)}
    if submission:
        metadata["annotations"] = {SUBMISSION_ANNOTATION: submission}
    if owner:
        metadata["ownerReferences"] = [_reference(owner)]
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": KIND,
        "metadata": metadata,
        "spec": {
            "submissionMode": "K8sJobMode",
            "entrypoint": entrypoint(job),
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": config.ttl_seconds,
            "activeDeadlineSeconds": config.deadline_seconds,
            "preRunningDeadlineSeconds": config.pre_running_seconds,
            "submitterPodTemplate": submitter_template(job, config),
            "rayClusterSpec": _cluster(job, config, preemptible),
        },
    }


def entrypoint(job: Job) -> str:
    """The command for a shell. It stands in the submitter's arguments, where Kubernetes itself reads $(NAME) as a
    variable and $$ as one dollar."""
    return shlex.join(["prefopt", *job.arguments]).replace("$", "$$")


def _labels(job: Job, config: KubernetesConfig, preemptible: PreemptibleConfig | None) -> dict[str, str]:
    labels = job_labels(job)
    if config.queue:
        labels[QUEUE_LABEL] = config.queue
    priority = (preemptible.priority if preemptible else None) or config.priority
    if priority:
        labels[PRIORITY_LABEL] = priority
    return labels


def _reference(owner: Owner) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": owner.name,
        "uid": owner.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }


def _cluster(job: Job, config: KubernetesConfig, preemptible: PreemptibleConfig | None) -> Manifest:
    number = config.workers.number
    most = (preemptible.most if preemptible else None) or number
    scales = most > number
    head = head_template(job, config, scales)
    cluster: Manifest = {
        "rayVersion": version("ray"),
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", **_start_params(config.head.shared_memory_gb)},
            "template": head,
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": number,
                "minReplicas": number,
                "maxReplicas": most,
                "rayStartParams": _start_params(config.workers.shared_memory_gb),
                "template": worker_template(job, config, preemptible),
            }
        ],
    }
    if config.auth == "token":
        cluster["authOptions"] = {"mode": "token"}
    if scales:
        container = head["spec"]["containers"][0]
        cluster["enableInTreeAutoscaling"] = True
        cluster["autoscalerOptions"] = {
            "securityContext": container["securityContext"],
            "env": [{"name": "HOME", "value": "/tmp"}],
            "volumeMounts": [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/tmp"],
        }
    return cluster


def _start_params(shared_memory_gb: int) -> dict[str, str]:
    return {"object-store-memory": str(int(shared_memory_gb * _GIB * _OBJECT_STORE_SHARE))}
