"""Whether a cluster can run a config: rights, queue, pipelines, and a short job that looks at it from inside."""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prefopt.config import RunConfig
from prefopt.config.kubernetes import KubernetesConfig
from prefopt.config.submit import HereConfig
from prefopt.data.storage import Storage
from prefopt.doctor.report import Check, ok, problem, warning
from prefopt.errors import PrefoptError
from prefopt.platform.jobs import Job, JobError, job_arguments
from prefopt.platform.kubernetes.api import Kube, KubeError
from prefopt.platform.places import settled
from prefopt.platform.stage import submitter

RIGHTS: Mapping[str, Sequence[str]] = {
    "rayjobs": ("create", "get", "list", "watch", "delete"),
    "pods": ("get", "list", "watch"),
    "pods/log": ("get",),
}
"""What a component's service account does, as in k8s/base: verbs by resource."""


@dataclass(frozen=True)
class Pipelines:
    """Where Kubeflow Pipelines is, and who asks it."""

    host: str
    namespace: str | None = None
    token_file: str | None = None


def check_up(
    config: RunConfig, run_dir: str, pipelines: Pipelines | None, tell: Callable[[str], None]
) -> Iterator[Check]:
    """All checks, of the cluster that `cluster.submit` names. Lines of the job's log go to `tell`."""
    submit = config.cluster.submit
    if pipelines:
        yield check_kubeflow(pipelines)
    if isinstance(submit, HereConfig):
        yield problem(
            "cluster", "cluster.submit.kind is here, so no cluster is named.", "Set it to ray or to kubernetes."
        )
        return
    if isinstance(submit, KubernetesConfig):
        try:
            kube = Kube(submit.namespace)
        except PrefoptError as error:
            yield problem("kubernetes", str(error), "Without Kubernetes nothing else can be asked.")
            return
        yield check_rights(kube)
        if submit.queue:
            yield check_queue(kube, submit.queue)
    yield from _seen_from_inside(config, run_dir, tell)


def check_rights(kube: Kube) -> Check:
    """Whether this account may do what a component does."""
    name = "rights"
    try:
        missing = [
            f"{verb} {resource}" for resource, verbs in RIGHTS.items() for verb in verbs if not kube.may(verb, resource)
        ]
    except KubeError as error:
        return problem(name, str(error), "Renew the kubeconfig, or ask who runs the cluster.")
    if missing:
        return problem(
            name,
            f"Not allowed in namespace {kube.namespace}: {', '.join(missing)}.",
            "Apply the Role of k8s/base and bind it to this account.",
        )
    return ok(name, f"All that a component does in namespace {kube.namespace} is allowed.")


def check_queue(kube: Kube, queue: str) -> Check:
    """Whether Kueue's LocalQueue takes jobs, and how many wait."""
    name = "queue"
    try:
        found = kube.queue(queue)
    except KubeError as error:
        if error.status == 403:
            told = f"This account may not look at LocalQueue {queue} in namespace {kube.namespace} (403)."
            return warning(name, told, "Jobs may go through all the same. To see the queue, get localqueues is needed.")
        return problem(name, str(error), "Look at Kueue, or leave cluster.submit.queue out.")
    if found is None:
        return problem(
            name,
            f"There is no LocalQueue {queue} in namespace {kube.namespace}, or no Kueue that serves v1beta2.",
            "Install Kueue, apply k8s/overlays/kueue, or correct cluster.submit.queue.",
        )
    status = found.get("status", {})
    active: dict[str, str] = next((one for one in status.get("conditions", []) if one.get("type") == "Active"), {})
    if active.get("status") != "True":
        cause = active.get("message") or "it says nothing of itself"
        return problem(name, f"LocalQueue {queue} takes no jobs: {cause}.", "See its ClusterQueue.")
    waiting, admitted = status.get("pendingWorkloads", 0), status.get("admittedWorkloads", 0)
    quota = ", ".join(
        f"{resource['name']} {resource.get('total', '?')}"
        for flavor in status.get("flavorsUsage") or status.get("flavorUsage") or []
        for resource in flavor.get("resources", [])
    )
    told = f"LocalQueue {queue}: {admitted} admitted, {waiting} waiting{f'; in use: {quota}' if quota else ''}."
    return (
        warning(name, told, "Others wait already: a job may be suspended for a while.") if waiting else ok(name, told)
    )


def check_kubeflow(pipelines: Pipelines) -> Check:
    """Whether Kubeflow Pipelines answers and takes the token."""
    from prefopt.platform.kubeflow.client import connect

    try:
        connect(pipelines.host, pipelines.namespace, pipelines.token_file)
    except PrefoptError as error:
        return problem("pipelines", str(error), "Pipelines cannot be submitted there.")
    return ok("pipelines", f"Kubeflow Pipelines answers at {pipelines.host}.")


def _seen_from_inside(config: RunConfig, run_dir: str, tell: Callable[[str], None]) -> Iterator[Check]:
    """A job of its own looks at nodes, collectives and storage, and writes down what it finds."""
    tree, place = settled(config, run_dir)
    name = f"prefopt-doctor-{secrets.token_hex(6)}"
    storage, found = Storage(place), f"doctor/{name}.json"
    try:
        arguments = (*job_arguments("doctor", tree, place), "--probe", storage.place(found))
        submitter(tree).run(Job(name, arguments), tell)
        checks = [Check(**check) for check in json.loads(storage.read_bytes(found))["checks"]]
        storage.delete(found)
    except JobError as error:
        yield problem("job", str(error), "Until a job runs, nothing of the cluster is known from inside.")
    except PrefoptError as error:
        yield problem("job", str(error), "The job and this machine must see the same storage.")
    else:
        yield ok("job", f"Job {name} ran on the cluster and left its findings in {place}.")
        yield from checks
