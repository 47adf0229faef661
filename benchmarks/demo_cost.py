"""What the demo costs: seconds, and the peak of the summed proportional set sizes of all its processes.

python benchmarks/demo_cost.py
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil


def peak_pss(process: subprocess.Popen[bytes], seconds: float = 0.25) -> int:
    """Largest sum of PSS, in bytes, of a process and all its children until it ends."""
    driver, family, highest = psutil.Process(process.pid), set[psutil.Process](), 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            family |= {driver, *driver.children(recursive=True)}
        total = 0
        for member in family:
            with contextlib.suppress(psutil.Error):
                total += member.memory_full_info().pss
        highest = max(highest, total)
        time.sleep(seconds)
    return highest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="examples/quickstart.yaml")
    parser.add_argument("--quick", action="store_true", help="the demo is short already; this changes nothing")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "prefopt", "run", arguments.config, "--run-dir", f"{place}/run"]
        command += ["--set", f"store={place}/store"]
        for run in ("first", "second"):
            started = time.monotonic()
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            peak = peak_pss(process)
            if process.returncode:
                raise SystemExit(f"the {run} run failed with exit code {process.returncode}")
            figures |= {f"{run}_run_seconds": time.monotonic() - started, f"{run}_run_peak_pss_gb": peak / 1e9}
        for log in sorted(Path(place).glob("run/logs/*/[0-9a-f]*.json")):
            figures[f"{log.parent.name}_seconds"] = json.loads(log.read_text())["seconds"]
    for name, value in figures.items():
        print(f"{name}: {value:.2f}")
    if arguments.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
