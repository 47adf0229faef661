"""By what others know our RayJobs and pods: network policies, disruption budgets, Prometheus, and people.

Ray nodes also bear what the operator gives them: `ray.io/is-ray-node`, `ray.io/node-type`, `ray.io/cluster`.
"""

from prefopt.platform.jobs import Job

COMPONENT = "app.kubernetes.io/component"
SCALES = "prefopt.io/scales"
"""Of a head whose autoscaler asks the API of Kubernetes for more workers, and so must reach it."""
METRICS_PORT = 8080
"""Where each Ray node tells its metrics."""

_OURS = {
    "app.kubernetes.io/name": "prefopt",
    "app.kubernetes.io/part-of": "prefopt",
    "app.kubernetes.io/managed-by": "prefopt",
}
_SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(METRICS_PORT),
    "prometheus.io/path": "/metrics",
}
_STAYS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}

Metadata = dict[str, dict[str, str]]


def job_labels(job: Job) -> dict[str, str]:
    """Of the RayJob and of its Ray nodes: the job's own, with the stage as component, and whose it is."""
    return {**job.labels, **_OURS}


def submitter_metadata(job: Job) -> Metadata:
    """Of the pod that sends the command, which may reach heads and nothing else."""
    return {"labels": {**job_labels(job), COMPONENT: "submitter"}}


def head_metadata(job: Job, scales: bool) -> Metadata:
    """Of the pod in which the command runs: a node is not emptied while it is there."""
    labels = {**job_labels(job), SCALES: "true"} if scales else job_labels(job)
    return {"labels": labels, "annotations": {**_SCRAPED, **_STAYS}}


def worker_metadata(job: Job) -> Metadata:
    """Of workers, which may go: Ray makes good for them."""
    return {"labels": job_labels(job), "annotations": dict(_SCRAPED)}
