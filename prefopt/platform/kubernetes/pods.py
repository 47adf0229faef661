"""The pods of a RayJob: what they reserve, what they may do (as little as there is), what they see."""

from typing import Any

from prefopt.config.kubernetes import KubernetesConfig, PodConfig, PreemptibleConfig, Toleration
from prefopt.distributed.malloc import MALLOC_ENVIRONMENT
from prefopt.platform.jobs import Job
from prefopt.platform.kubernetes.labels import METRICS_PORT, head_metadata, submitter_metadata, worker_metadata

SUBMITTER_CONTAINER = "ray-job-submitter"
_WORKER_PORTS = {"metrics": METRICS_PORT}
_HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, **_WORKER_PORTS}
_SHARED_MEMORY = {"name": "shared-mem", "mountPath": "/dev/shm"}
_SCRATCH = {"name": "tmp", "mountPath": "/tmp"}
_ENVIRONMENT = {"HOME": _SCRATCH["mountPath"], "RAY_USAGE_STATS_ENABLED": "0"}

_Object = dict[str, Any]


def submitter_template(job: Job, config: KubernetesConfig) -> _Object:
    """The template of the pod that sends the command to the cluster and shows its log. It sees no secret."""
    container = _container(config, SUBMITTER_CONTAINER, _ENVIRONMENT)
    container["resources"] = {
        "requests": {"cpu": "500m", "memory": "512Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    return {"metadata": submitter_metadata(job), "spec": _spec(config, container, None)}


def head_template(job: Job, config: KubernetesConfig, scales: bool) -> _Object:
    """The template of the pod in which the command runs. If its cluster scales, it calls the API of Kubernetes."""
    spec = _node_spec(config, config.head, "ray-head", _HEAD_PORTS)
    if scales:
        spec["automountServiceAccountToken"] = True
        if config.preemptible and config.preemptible.autoscaler_account:
            spec["serviceAccountName"] = config.preemptible.autoscaler_account
    return {"metadata": head_metadata(job, scales), "spec": spec}


def worker_template(job: Job, config: KubernetesConfig, preemptible: PreemptibleConfig | None) -> _Object:
    """The template of the pods that do the work."""
    spec = _node_spec(config, config.workers, "ray-worker", _WORKER_PORTS, preemptible)
    return {"metadata": worker_metadata(job), "spec": spec}


def _node_spec(
    config: KubernetesConfig,
    pod: PodConfig,
    name: str,
    ports: dict[str, int],
    preemptible: PreemptibleConfig | None = None,
) -> _Object:
    volumes = [{"name": f"claim-{number}", **_claimed(volume.claim)} for number, volume in enumerate(config.volumes)]
    mounts = [
        {"name": f"claim-{number}", "mountPath": volume.mount_path, "readOnly": volume.read_only}
        for number, volume in enumerate(config.volumes)
    ]
    shared = {"medium": "Memory", "sizeLimit": f"{pod.shared_memory_gb}Gi"}
    container = _container(config, name, {**_ENVIRONMENT, **MALLOC_ENVIRONMENT, **config.environment})
    container["ports"] = [{"name": name, "containerPort": port} for name, port in ports.items()]
    container["resources"] = _resources(pod)
    container["volumeMounts"] += [_SHARED_MEMORY, *mounts]
    if config.secrets:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in config.secrets]
    spec = _spec(config, container, preemptible)
    spec["volumes"] += [{"name": _SHARED_MEMORY["name"], "emptyDir": shared}, *volumes]
    return spec


def _container(config: KubernetesConfig, name: str, environment: dict[str, str]) -> _Object:
    return {
        "name": name,
        "image": config.image,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "volumeMounts": [_SCRATCH],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _spec(config: KubernetesConfig, container: _Object, preemptible: PreemptibleConfig | None) -> _Object:
    spec: _Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": config.user,
            "runAsGroup": config.user,
            "fsGroup": config.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": _SCRATCH["name"], "emptyDir": {}}],
    }
    if config.service_account:
        spec["serviceAccountName"] = config.service_account
    if config.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in config.image_pull_secrets]
    if selector := {**config.node_selector, **(preemptible.node_selector if preemptible else {})}:
        spec["nodeSelector"] = selector
    if tolerations := [*config.tolerations, *(preemptible.tolerations if preemptible else ())]:
        spec["tolerations"] = [_toleration(toleration) for toleration in tolerations]
    return spec


def _resources(pod: PodConfig) -> _Object:
    amounts = {"cpu": f"{round(pod.cpus * 1000)}m", "memory": f"{pod.memory_gb}Gi"}
    if pod.gpus:
        amounts["nvidia.com/gpu"] = str(pod.gpus)
    return {"requests": amounts, "limits": dict(amounts)}


def _toleration(toleration: Toleration) -> _Object:
    return toleration.model_dump(exclude_none=True)


def _claimed(claim: str) -> _Object:
    return {"persistentVolumeClaim": {"claimName": claim}}
