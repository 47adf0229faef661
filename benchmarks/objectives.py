"""Every objective on the same visits of the embedded world, from a one-line change of the demo's config.

All runs share one store, labels with 20 % flips, pairs, draws and timesteps; the noisy latents follow each method's own
rule (sampled noise, or inverted by the reference for SmPO and InPO). Rate, steps and beta are the demo's for all: a
comparison of what runs and what it costs, not of methods at their best.

    python benchmarks/objectives.py [--only dpo smpo] [--quick] [--json]
    python benchmarks/objectives.py --seconds [--turns 20]

The second form measures seconds per step alone: on one worker in one process, each objective in turns with dpo.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from train import DPO, Bench

from prefopt.config import load_config
from prefopt.distributed.session import stop_ray

INVERTED = ("score.visits.inversion=renoise",)
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sft": ("{name: sft}", ()),
    "dpo": ("{name: dpo, beta: 2000}", ()),
    "ipo": ("{name: ipo, beta: 2000, form: logit}", ()),
    "cdpo": ("{name: cdpo, beta: 2000, epsilon: 0.2}", ()),
    "rdpo": ("{name: rdpo, beta: 2000, epsilon: 0.2}", ()),
    "adaptive_dpo": ("{name: adaptive_dpo, beta: 2000}", ()),
    "adaptive_dpo, offline u": ("{name: adaptive_dpo, beta: 2000, u: {source: offline}}", ()),
    "adaptive_ipo": ("{name: adaptive_ipo, beta: 2000, form: logit}", ()),
    "smpo": ("{name: smpo, beta: 2000}", INVERTED),
    "kto": ("{name: kto, beta: 2000}", ()),
    "mapo": ("{name: mapo}", ()),
    "inpo": ("{name: inpo, beta: 2000}", INVERTED),
    "dmpo": ("{name: dmpo, beta: 2000}", ()),
    "dpo_budget": ("{name: dpo_budget, beta: 2000}", ()),
    "dro_dpo": ("{name: dro_dpo, beta: 2000}", ()),
    "weighted_dpo, weight 1 - u": ("{name: weighted_dpo, beta: 2000, use: [weight]}", ()),
    "dpo, majority_vote": ("{name: dpo, beta: 2000}", ("labels.relabel=majority_vote",)),
    "dpo, filter_minority": ("{name: dpo, beta: 2000}", ("labels.relabel=filter_minority",)),
    "dpo, flip_minority": ("{name: dpo, beta: 2000}", ("labels.relabel=flip_minority",)),
}


def run_chain(name: str, config: str, root: Path, extra: list[str]) -> dict[str, float]:
    """One run of the chain; returns its held-out figures."""
    objective, settings = ROWS[name]
    place = root / name.replace(", ", "-").replace(" ", "-")
    overrides = [f"train.objective={objective}", f"store={root}/store", *settings, *extra]
    command = [sys.executable, "-m", "prefopt", "run", config, "--run-dir", str(place)]
    command += [part for override in overrides for part in ("--set", override)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = json.loads((place / "metrics.json").read_text())
    win = metrics["models"]["tuned"][load_config(config, overrides).evaluate.rewards[0]]["win_rate"]
    held_out = metrics["accuracy_heldout"]
    return {
        "accuracy": held_out["value"],
        "accuracy_low": held_out["low"],
        "accuracy_high": held_out["high"],
        "win_rate": win["value"],
        "win_low": win["low"],
        "win_high": win["high"],
    }


def measure_seconds(turns: int) -> dict[str, float]:
    """Seconds of a step of each objective, and its ratio to a step of dpo."""
    figures: dict[str, float] = {}
    torch.set_num_threads(1)
    print("| objective | seconds per step | over dpo |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        dist.init_process_group("gloo", init_method=f"file://{place}/rendezvous", rank=0, world_size=1)
        bench = Bench(Path(place), turns)
        for name, (objective, settings) in ROWS.items():
            if not settings or settings == INVERTED:
                ratio, seconds, _ = bench.ratio(bench.step(objective, *settings), bench.step(DPO))
                print(f"| {name} | {seconds:.3f} | {ratio:.2f} |", flush=True)
                figures |= {f"{name}: seconds": seconds, f"{name}: over_dpo": ratio}
        dist.destroy_process_group()
        stop_ray()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="examples/quickstart.yaml")
    parser.add_argument("--run-dir", default="runs/objectives")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--quick", action="store_true", help="three objectives, ten steps")
    parser.add_argument("--seconds", action="store_true", help="measure the steps' seconds, not what is learned")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print one flat object as the last line")
    arguments = parser.parse_args()
    chosen = ["dpo", "kto", "smpo"] if arguments.quick else arguments.only
    extra = [*arguments.set, *(["train.steps=10", "evaluate.prompt_sets.0.most=24"] if arguments.quick else [])]
    figures: dict[str, float] = measure_seconds(arguments.turns) if arguments.seconds else {}
    if not arguments.seconds:
        print("| objective | held-out accuracy | 95 % interval | win rate | 95 % interval |\n|---|---|---|---|---|")
    for name in () if arguments.seconds else chosen:
        run = run_chain(name, arguments.config, Path(arguments.run_dir), extra)
        cells = [f"{run['accuracy']:.3f}", f"{run['accuracy_low']:.3f} to {run['accuracy_high']:.3f}"]
        cells += [f"{run['win_rate']:.3f}", f"{run['win_low']:.3f} to {run['win_high']:.3f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        figures |= {f"{name}: {figure}": value for figure, value in run.items()}
    if arguments.json:
        print(json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
