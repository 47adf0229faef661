"""How much of its gain an objective keeps when labels are flipped, on the embedded world.

Runs the whole chain once per (flip rate, seed) and compares the held-out implicit accuracy and the win rate over the
base on the held-out true preference. The gain is what lies above 0.5; the loss is the share of the gain on clean
labels that is gone. Everything but the flips is equal.

    python benchmarks/label_noise.py --flips 0 0.3 --seeds 0 1 2 --set train.objective='{name: dpo, beta: 2000}'
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from prefopt.config import load_config

SEEDED = ("seed", "ingest.sources.0.seed", "inject.seed", "score.visits.seed", "evaluate.seed")
FIGURES = ("accuracy", "win_rate")


def run_chain(arguments: argparse.Namespace, flips: float, seed: int) -> dict[str, float]:
    """One run of the chain; returns its held-out figures."""
    rules = f"[{{kind: symmetric, rate: {flips}}}]" if flips else "[]"
    overrides = [f"{key}={seed}" for key in SEEDED] + [f"inject.flips={rules}", *arguments.set]
    run_dir = Path(arguments.run_dir) / f"flips-{flips:g}-seed-{seed}"
    command = [sys.executable, "-m", "prefopt", "run", arguments.config, "--run-dir", str(run_dir)]
    command += [part for override in overrides for part in ("--set", override)]
    subprocess.run(command, check=True, stderr=None if arguments.verbose else subprocess.DEVNULL, stdout=sys.stderr)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    ((_, tuned),) = ((name, value) for name, value in metrics["models"].items() if name != metrics["base"])
    win = tuned[load_config(arguments.config, overrides).evaluate.rewards[0]]["win_rate"]
    auroc = ((metrics["minority"] or {}).get("auroc_by_source") or {}).get("offline") or {}
    return {
        "accuracy": metrics["accuracy_heldout"]["value"],
        "win_rate": win["value"],
        "win_low": win["low"],
        "win_high": win["high"],
        "auroc": auroc.get("value", float("nan")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="examples/quickstart.yaml")
    parser.add_argument("--run-dir", default="runs/label_noise")
    parser.add_argument("--flips", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    figures: dict[str, float] = {}
    print("| flips | seed | held-out accuracy | win rate | 95 % interval | AUROC of offline u |")
    print("|---|---|---|---|---|---|")
    means: dict[tuple[float, str], float] = {}
    for flips in arguments.flips:
        runs = [run_chain(arguments, flips, seed) for seed in seeds]
        for seed, run in zip(seeds, runs, strict=True):
            shown = [run["accuracy"], run["win_rate"], f"{run['win_low']:.3f} to {run['win_high']:.3f}", run["auroc"]]
            cells = [cell if isinstance(cell, str) else f"{cell:.3f}" for cell in shown]
            print(f"| {flips:g} | {seed} | {' | '.join(cells)} |", flush=True)
            figures |= {f"{name}_flips_{flips:g}_seed_{seed}": value for name, value in run.items()}
        for name in FIGURES:
            means[flips, name] = statistics.mean(run[name] for run in runs)
    clean = arguments.flips[0]
    for flips in arguments.flips:
        for name in FIGURES:
            gain, clean_gain = means[flips, name] - 0.5, means[clean, name] - 0.5
            figures[f"{name}_gain_flips_{flips:g}"] = gain
            if flips != clean:
                figures[f"{name}_lost_share_flips_{flips:g}"] = 1.0 - gain / clean_gain
                print(f"{name}: gain {clean_gain:.3f} clean, {gain:.3f} at {flips:g}: {1 - gain / clean_gain:.0%} lost")
    if arguments.json:
        print(json.dumps({name: value for name, value in figures.items() if value == value}, sort_keys=True))


if __name__ == "__main__":
    main()
