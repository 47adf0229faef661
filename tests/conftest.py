"""One Ray and one process group for the whole test run."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from tests.kit.workers import WorkerGroups

settings.register_profile("prefopt", deadline=None, derandomize=True)
settings.load_profile("prefopt")

# As workers do: with several threads, how work is shared out may change the last bits of a result.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray of four logical CPUs, quiet, without a dashboard."""
    import ray
    import ray.data  # its log handlers keep the standard error that they find, which must outlive a test

    site = Path(__file__).parent / "kit" / "site"  # a package that registers rewards, installed for workers alone
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(site)]))
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else a busy test process starves the workers it waits for
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=200_000_000,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def worker_groups(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator["WorkerGroups"]:
    """Warm training workers, which all modules share: each takes ten seconds to start."""
    from tests.kit.workers import WorkerGroups

    made = WorkerGroups(tmp_path_factory.mktemp("workers"))
    yield made
    made.close()


@pytest.fixture
def process_group() -> None:
    """This process as the only worker of a group, which it keeps: DeepSpeed joins one group and knows no other."""
    from prefopt.distributed.training.in_process import stand_alone

    stand_alone(torch.device("cpu"))
