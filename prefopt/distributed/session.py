"""One Ray for all stages of a command: a running cluster, or a local one that the command starts and ends."""

import logging
import os

import ray

from prefopt.config.cluster import ClusterConfig
from prefopt.distributed.malloc import MALLOC_ENVIRONMENT
from prefopt.distributed.quiet import QUIET_ENVIRONMENT
from prefopt.errors import ConfigError

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    **QUIET_ENVIRONMENT,
}


def start_ray(cluster: ClusterConfig, *, verbose: bool) -> None:
    """Connect to `cluster.address` or RAY_ADDRESS, else start a local Ray. Does nothing if one is connected.

    Raises ConfigError if the cluster cannot be reached, or if a pool would reserve every CPU.
    """
    if ray.is_initialized():
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    cpus = cluster.cpus or os.cpu_count() or 1
    for name, value in (MALLOC_ENVIRONMENT if verbose else MALLOC_ENVIRONMENT | _QUIET).items():
        os.environ.setdefault(name, value)  # workers of a local Ray inherit them
    if not address and cluster.workers * cluster.worker_cpus >= cpus + 1:
        raise ConfigError(
            f"cluster.workers {cluster.workers} x cluster.worker_cpus {cluster.worker_cpus} would reserve every one of"
            f" {cpus} CPUs: lower one of them, so that reading can go on."
        )
    local = {"num_cpus": cpus + 1, "object_store_memory": cluster.object_store_mb * 1_000_000}
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            **({} if address else local),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"Cannot start Ray at {address or 'this machine'}: {error}") from None
    _quiet_ray_data(verbose)


def stop_ray() -> None:
    """Leave the cluster; ends the local Ray that `start_ray` started."""
    if ray.is_initialized():
        ray.shutdown()


def _quiet_ray_data(verbose: bool) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    if not verbose:
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs as errors, stages raise in words
