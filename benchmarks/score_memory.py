"""How much memory score takes for few pairs and for ten times as many: peak RSS of the driver and of its actors.

Every pair has two small images of its own. Each stage is a process of its own, and only score is watched.

    python benchmarks/score_memory.py [--quick] [--json] [--pairs 2000 20000]
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

FILES = 4
SIDE = 32
ANNOTATORS = 50
REWARDS = ["world/fidelity", "world/taste"]
STAGES = ("ingest", "inject", "score")


def picture(number: int) -> bytes:
    """A PNG that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((SIDE // 4, SIDE // 4, 1), dtype=np.uint8))).save(buffer, "PNG")
    return buffer.getvalue()


def write_pairs(place: Path, pairs: int) -> None:
    """Judged pairs in the Pick-a-Pic layout, each under a prompt of its own."""
    place.mkdir()
    for file, numbers in enumerate(np.array_split(np.arange(pairs), FILES)):
        columns: dict[str, Any] = {
            "caption": [f"a picture of thing number {number}" for number in numbers],
            "jpg_0": [picture(2 * number) for number in numbers],
            "jpg_1": [picture(2 * number + 1) for number in numbers],
            "label_0": [float(number % 2) for number in numbers],
            "user_id": [f"user {number % ANNOTATORS}" for number in numbers],
        }
        pq.write_table(pa.table(columns), place / f"{file}.parquet", row_group_size=500)


def write_config(place: Path, steps: int) -> None:
    """The quickstart's model, split and training plan, with two rewards and no flips."""
    tree = {
        "name": "score-memory",
        "store": f"{place}/store",
        "model": {"path": "world"},
        "ingest": {
            "sources": [{"kind": "pickapic", "path": f"{place}/data"}],
            "split": {"validation": 0.1, "test": 0.25},
        },
        "score": {"resolution": SIDE, "alpha": {"reward": "world/taste"}, "panel": {"rewards": REWARDS}},
        "train": {"steps": steps, "global_batch": 32, "micro_batch": 16},
        "evaluate": {"rewards": ["world/true"]},
        "cluster": {"workers": 2, "cpus": 2},
    }
    (place / "config.yaml").write_text(yaml.safe_dump(tree))


def peak_rss(process: psutil.Process) -> int:
    """The high-water mark of a process's resident memory so far, in bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def watch(command: subprocess.Popen[bytes], seconds: float = 0.1) -> tuple[int, int]:
    """Peak RSS in bytes, until the command ends, of its driver and of the largest of its Ray workers."""
    driver, highest = psutil.Process(command.pid), [0, 0]
    while command.poll() is None:
        with contextlib.suppress(psutil.Error, OSError):
            highest[0] = max(highest[0], peak_rss(driver))
            for child in driver.children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError):
                    if "".join(child.cmdline()[:1]).startswith("ray::"):
                        highest[1] = max(highest[1], peak_rss(child))
        time.sleep(seconds)
    return highest[0], highest[1]


def measure(place: Path, pairs: int, steps: int) -> dict[str, float]:
    """Peaks of score in MB, and its seconds."""
    write_pairs(place / "data", pairs)
    write_config(place, steps)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    driver = actor = 0
    started = time.monotonic()
    for stage in STAGES:
        started = time.monotonic()
        command = [sys.executable, "-m", "prefopt", stage, f"{place}/config.yaml", "--run-dir", f"{place}/run"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        driver, actor = watch(process)
        if process.returncode:
            raise SystemExit(f"{stage} of {pairs} pairs failed with exit code {process.returncode}")
    return {"driver_mb": driver / 1e6, "actor_mb": actor / 1e6, "seconds": time.monotonic() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs=2, default=[2_000, 20_000], metavar=("FEW", "MANY"))
    parser.add_argument("--steps", type=int, default=60, help="of the training whose visits are planned")
    parser.add_argument("--quick", action="store_true", help="a tenth of the pairs, which says little")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    sizes = [count // 10 for count in arguments.pairs] if arguments.quick else arguments.pairs
    figures: dict[str, float] = {}
    print("| pairs | driver, MB | largest actor, MB | seconds |\n|---|---|---|---|")
    for name, pairs in zip(("few", "many"), sizes, strict=True):
        with tempfile.TemporaryDirectory() as place:
            found = measure(Path(place), pairs, arguments.steps)
        figures |= {f"{name}_{figure}": value for figure, value in found.items()}
        cells = [f"{pairs}", f"{found['driver_mb']:.0f}", f"{found['actor_mb']:.0f}", f"{found['seconds']:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    for who in ("driver", "actor"):
        figures[f"{who}_growth"] = figures[f"many_{who}_mb"] / figures[f"few_{who}_mb"]
    print(f"| growth | {figures['driver_growth']:.3f} | {figures['actor_growth']:.3f} | |")
    if arguments.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
