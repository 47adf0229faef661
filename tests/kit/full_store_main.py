"""A process whose Ray has the smallest object store, filled to the brim, and that then runs a score stage.

Arguments: root, URL of the reward server, name of the run, `spills` or `stuck` (no disk to spill to), and the file that
gets the error's class and message, or nothing.
"""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import ray
import torch
from ray.exceptions import OutOfDiskError

from prefopt.errors import PrefoptError
from tests.kit.data import run_stages
from tests.kit.score_faults import STAGES, faulty_config

STORE_BYTES = 75 * 2**20
PIECES = (2_000_000, 100_000, 1_000)


def fill(stuck: bool) -> list[np.ndarray]:
    """Views of objects: as long as they live, the objects can leave the store's memory for nothing else."""
    held = []
    for size in PIECES:
        for _ in range(STORE_BYTES // size + 1 if size == PIECES[0] or stuck else 0):
            try:
                held.append(ray.get(ray.put(np.zeros(size, np.uint8))))
            except OutOfDiskError:
                assert stuck
                break
    assert sum(view.nbytes for view in held) > 0.9 * STORE_BYTES
    return held


def main(root: str, url: str, name: str, mode: str, report: str) -> None:
    """Fill the store, run the stage, say how it ended."""
    torch.set_num_threads(1)
    stuck = {"_system_config": {"local_fs_capacity_threshold": 1e-6}} if mode == "stuck" else {}
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **stuck,
    )
    held = fill(stuck=mode == "stuck")
    said = []
    try:
        run_stages(faulty_config(Path(root), url, name, engine="ray", workers=1), Path(root) / name / "run", STAGES)
    except PrefoptError as error:
        said = [type(error).__name__, str(error)]
    assert held
    Path(report).write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
