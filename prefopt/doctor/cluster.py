"""Checks of where a config runs: Ray, workers, processors, GPUs and precision."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping

from prefopt.config import RunConfig
from prefopt.config.cluster import ClusterConfig
from prefopt.doctor.machine import accelerators, processors
from prefopt.doctor.report import Check, ok, problem, warning

_CONNECT_SECONDS = 5.0
_RAY_SECONDS = 120.0
_ASK = """
import json, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR",
         **({"include_dashboard": False} if sys.argv[1] == "local" else {}))
print(json.dumps(ray.cluster_resources()))
"""


def check_cluster(config: RunConfig, start_ray: bool) -> Iterator[Check]:
    """All checks of where a config runs; with `start_ray` a local Ray is started and ended where none is named."""
    cluster = config.cluster
    if cluster.engine == "process":
        yield ok("ray", "Stages work in their own process, without Ray (cluster.engine).")
        yield check_gpus(1, cluster, len(accelerators()))
        yield check_precision(config)
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    answer, resources = check_ray(address, start_ray)
    yield answer
    if resources is None and address:
        return
    gpus = accelerators()
    local = {"CPU": float((cluster.cpus or processors()) + 1), "GPU": float(len(gpus))}
    found = resources if address and resources else local
    yield check_workers(config.train.workers, cluster, found.get("CPU", 0.0), local=not address)
    yield check_gpus(config.train.workers, cluster, int(found.get("GPU", 0.0)))
    yield check_precision(config)
    if config.train.zero == 3 and config.train.workers == 1:
        yield warning("zero", "ZeRO 3 with one worker shards nothing.", "Raise train.workers, or lower train.zero.")


def check_ray(address: str | None, start: bool) -> tuple[Check, Mapping[str, float] | None]:
    """Whether Ray answers at an address, and what it has; without one, whether a local Ray starts, if asked."""
    name = "ray"
    if address is None and not start:
        return ok(name, "Each command starts a local Ray and ends it (--start-ray tries it now)."), None
    if address and not _listens(address):
        return problem(
            name,
            f"Nobody answers at {address}.",
            "Start the cluster, correct cluster.address or RAY_ADDRESS, or leave them out for a local Ray.",
        ), None
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK, address or "local"], capture_output=True, text=True, timeout=_RAY_SECONDS
        )
    except subprocess.TimeoutExpired:
        return problem(name, f"Ray did not answer within {_RAY_SECONDS:g} s.", "Look at the cluster's logs."), None
    if asked.returncode:
        cause = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        return problem(
            name, f"Ray refused: {cause[:300]}", "Use the same versions of Python and Ray here and on the cluster."
        ), None
    resources: dict[str, float] = json.loads(asked.stdout.strip().splitlines()[-1])
    where = f"The cluster at {address}" if address else "A local Ray starts; it"
    return ok(name, f"{where} has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs."), resources


def check_workers(workers: int, cluster: ClusterConfig, cpus: float, *, local: bool) -> Check:
    """Processors for the training workers, and for the actors of the other stages beside their reading."""
    name = "workers"
    where = "the local Ray" if local else "the cluster"
    for field, number in (("train.workers", workers), ("cluster.workers", cluster.workers)):
        needed = number * cluster.worker_cpus
        if needed > cpus or (field == "cluster.workers" and needed >= cpus):
            return problem(
                name,
                f"{field} {number} x cluster.worker_cpus {cluster.worker_cpus:g} does not fit in the {cpus:g} CPUs of"
                f" {where}{', where reading needs some too' if field == 'cluster.workers' else ''}.",
                "Lower one of them, or raise cluster.cpus." if local else "Lower one of them, or grow the cluster.",
            )
    return ok(name, f"train.workers {workers} and cluster.workers {cluster.workers} fit in {cpus:g} CPUs.")


def check_gpus(workers: int, cluster: ClusterConfig, gpus: int) -> Check:
    """One GPU for each training worker, if any."""
    name = "gpus"
    if not cluster.worker_gpus and gpus:
        return warning(name, f"{gpus} GPUs are there, and none is used.", "Set cluster.worker_gpus to 1.")
    if not cluster.worker_gpus:
        return ok(name, "None is asked for.")
    if workers > gpus:
        return problem(
            name,
            f"train.workers {workers} need a GPU each, and there {'is' if gpus == 1 else 'are'} {gpus or 'none'}.",
            "Lower train.workers, or set cluster.worker_gpus to 0 to train on processors.",
        )
    return ok(name, f"{gpus} for {workers} training workers.")


def check_precision(config: RunConfig) -> Check:
    """Whether the device computes in the wanted precision. A cluster's devices are not seen from here."""
    import torch

    name, precision = "precision", config.train.precision
    if precision == "fp32":
        return ok(name, "fp32.")
    if config.cluster.worker_gpus:
        if torch.cuda.is_available() and precision == "bf16" and not torch.cuda.is_bf16_supported(False):
            return warning(name, "The GPU here computes bf16 only by emulation.", "Set train.precision to fp16.")
        return ok(name, f"{precision}.")
    if precision == "fp16":
        return warning(
            name, "Processors often refuse fp16 or are slow in it.", "Set train.precision to fp32 or bf16 without GPUs."
        )
    return ok(name, "bf16, which saves memory on processors but not time.")


def _listens(address: str) -> bool:
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return True
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False
