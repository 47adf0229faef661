"""What the score stage costs: Ray Data against a bare loop, one worker against two, batched inversion against pairs.

The reward model has CLIP ViT-B/16's shape, random weights and 224 px; every pair has two pictures of 512 px and a
prompt of its own. Every process has one thread. The variants take turns, and ratios are medians over the turns. What a
process needs to start and to load its model is left out: a run of the stage is timed from the moment when every worker
has done one unit.

    python benchmarks/score.py [--quick] [--json] [--turns 3]
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from prefopt.config import RunConfig, load_config
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.distributed.costly import scored_images
from prefopt.distributed.inversions import InvertVisits
from prefopt.distributed.session import start_ray, stop_ray
from prefopt.distributed.units import Progress
from prefopt.stages.base import costly_rows
from prefopt.stages.chain import Chain

CONFIG = "examples/quickstart.yaml"
UNIT = 16
"""Images of a work unit, and of a batch."""
SIDE = 512
LEVELS = 10
VISITS, SINGLE_VISITS = 256, 32
"""Inverted in a turn: in batches, and one pair at a time."""


class Bench:
    """A data set, a reward model, and runs of the stage on them in one place."""

    def __init__(self, place: Path, units: int, workers: int) -> None:
        self._place, self._workers = place, workers
        self._pairs, self._runs = units * UNIT // 2, 0
        write_clip(place / "clip")
        self._data = place / "data"
        write_pairs(self._data, self._pairs + workers * UNIT // 2)

    def stage(self, workers: int) -> float:
        """Pairs/s of the Ray Data part of score."""
        self._runs += 1
        root = self._place / f"run {self._runs}"
        source = f"{{kind: pickapic, path: {self._data}}}"
        config = settings(
            root,
            f"ingest.sources=[{source}]",
            f"rewards.models.clip={{weights: {self._place}/clip}}",
            "score.alpha={reward: clip}",
            "score.panel=null",
            f"score.batch={UNIT}",
            f"score.unit_images={UNIT}",
            f"limit={self._pairs + workers * UNIT // 2}",
            f"cluster.workers={workers}",
        )
        done: list[float] = []

        def progress(finished: int, total: int, what: str, how: str = "") -> None:
            if finished and what == "images":
                done.append(time.perf_counter())

        chain = chain_of(config, root, progress)
        chain.run(("ingest", "inject"))
        context = chain.context("score")
        pairs, images = (read_tables(context.parents["ingest"], name) for name in ("pairs-", "images-"))
        costly_rows(context).fill_images(images, pairs, config.score.reward_names(), ())
        return (len(done) - workers) * UNIT / 2 / (done[-1] - done[workers - 1])

    def bare(self) -> float:
        """Pairs/s of a loop in plain transformers: each picture is decoded and seen once, each prompt read once."""
        directory = self._place / "clip"
        model = CLIPModel.from_pretrained(directory).eval()
        pixels = CLIPImageProcessorPil.from_pretrained(directory)
        words = CLIPTokenizer(vocab=str(directory / "vocab.json"), merges=str(directory / "merges.txt"))
        rows = pq.read_table(self._data / "train.parquet").slice(0, self._pairs)
        start = time.perf_counter()
        with torch.inference_mode():
            for batch in rows.to_batches(max_chunksize=UNIT // 2):
                told = batch.to_pylist()
                images = [Image.open(io.BytesIO(row[f"jpg_{side}"])).convert("RGB") for row in told for side in (0, 1)]
                seen = model.get_image_features(**pixels(images=images, return_tensors="pt")).pooler_output
                texts = [row["caption"] for row in told]
                tokens = words(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
                read = model.get_text_features(**tokens).pooler_output
                seen, read = (torch.nn.functional.normalize(features, dim=-1) for features in (seen, read))
                (seen * read.repeat_interleave(2, dim=0)).sum(dim=-1).numpy()
        return self._pairs / (time.perf_counter() - start)


class Inversions:
    """The demo's visits, with published ReNoise settings on the published grid."""

    def __init__(self, place: Path, turns: int) -> None:
        root = place / "inversions"
        visits = ("inversion=renoise", f"steps={LEVELS}", "grid=reference")
        overrides = [*(f"score.visits.{way}" for way in visits), f"train.steps={turns * VISITS // 32}"]
        self._config = settings(root, *overrides, "score.alpha=null", "score.panel=null")
        chain = chain_of(self._config, root)
        chain.run(("ingest", "inject", "score"))
        context = chain.context("train")
        ingest, self._visits = context.parents["ingest"], read_tables(context.parents["score"], "visits-")
        pairs = read_tables(ingest, "pairs-")
        prompts = dict(zip(pairs["pair_id"].to_pylist(), pairs["prompt"].to_pylist(), strict=True))
        texts = pa.array([prompts[pair] for pair in self._visits["pair_id"].to_pylist()])
        self._store, self._work = Storage(self._config.store), Storage(str(root / "work"))
        self._work.write_table("inversions.parquet", self._visits.append_column("prompt", texts))
        self._workers = {size: InvertVisits(self._of(size), self._store, self._work) for size in (1, 32)}
        self.unique_share = unique_share(ingest)

    def _of(self, batch: int) -> RunConfig:
        visits = self._config.score.visits.model_copy(update={"batch": batch})
        return self._config.model_copy(update={"score": self._config.score.model_copy(update={"visits": visits})})

    def rate(self, batch: int, turn: int, count: int) -> float:
        """Pairs/s of inversion with so many pairs a batch, reading and storing included."""
        start = time.perf_counter()
        self._workers[batch]({"start": turn * VISITS, "count": count})
        return count / (time.perf_counter() - start)


def unique_share(ingest: object) -> float:
    """Different (image, prompt) of a data set, as a share of those that its votes show."""
    pairs, votes = (read_tables(ingest, name) for name in ("pairs-", "votes-"))  # type: ignore[arg-type]
    return len(set(scored_images(pairs))) / (2 * votes.num_rows)


def settings(root: Path, *overrides: str) -> RunConfig:
    """The demo's config, changed."""
    fixed = [f"store={root}/store", "inject.flips=[]", "train.workers=1", "cluster.threads=1", "ingest.split.test=0.1"]
    return load_config(CONFIG, [*fixed, *overrides])


def quiet(done: int, total: int, what: str, how: str = "") -> None:
    """No progress is shown."""


def chain_of(config: RunConfig, root: Path, progress: Progress = quiet) -> Chain:
    """A run in a place of its own."""
    return Chain(config, str(root / "run"), start_engine=lambda: None, progress=progress)


def write_clip(place: Path) -> None:
    """A CLIP of ViT-B/16's shape with random weights, in transformers' layout, and a tokenizer that knows bytes."""
    place.mkdir()
    vision = {"patch_size": 16, "image_size": 224, "hidden_size": 768, "intermediate_size": 3072}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(projection_dim=512, vision_config=vision)).save_pretrained(place)
    CLIPImageProcessorPil().save_pretrained(place)
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"<{number}>" for number in range(49406 - len(words))] + ["<|startoftext|>", "<|endoftext|>"]
    (place / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (place / "merges.txt").write_text("#version: 0.2\n")


def write_pairs(place: Path, count: int) -> None:
    """Pairs as Pick-a-Pic's, each with two pictures and a prompt that no other has."""
    place.mkdir()
    rng = np.random.default_rng(0)
    rows = [
        {
            "caption": f"picture number {number}",
            "jpg_0": picture(rng),
            "jpg_1": picture(rng),
            "label_0": float(number % 2),
            "user_id": number % 7,
        }
        for number in range(count)
    ]
    pq.write_table(pa.Table.from_pylist(rows), place / "train.parquet", row_group_size=UNIT)


def picture(rng: np.random.Generator) -> bytes:
    """A JPEG of smooth colours and grain."""
    coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    grain = rng.normal(0, 6, (SIDE, SIDE, 1))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse, np.float32) + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def measure(place: Path, turns: int, units: int) -> dict[str, float]:
    """Medians over the turns: rates and their ratios."""
    bench, inversions = Bench(place, units, 2), Inversions(place, turns)
    rates: dict[str, list[float]] = {}

    def note(name: str, rate: float) -> None:
        rates.setdefault(name, []).append(rate)
        print(f"{name}: {rate:.3f} pairs/s", flush=True)

    for turn in range(turns):
        note("inverted in batches of 32", inversions.rate(32, turn, VISITS))
        note("inverted one pair at a time", inversions.rate(1, turn, SINGLE_VISITS))
        note("bare loop", bench.bare())
        note("stage, 1 worker", bench.stage(1))
        note("stage, 2 workers", bench.stage(2))
    ratios = {
        "score_over_bare_loop": ("stage, 1 worker", "bare loop"),
        "two_workers_over_one": ("stage, 2 workers", "stage, 1 worker"),
        "batched_inversion_over_single": ("inverted in batches of 32", "inverted one pair at a time"),
    }
    found = {key: ratio(rates, *names) for key, names in ratios.items()}
    print("\n| key | ratio | pairs/s |\n|---|---|---|")
    for key, (first, second) in ratios.items():
        shown = [statistics.median(rates[name]) for name in (first, second)]
        print(f"| `{key}` | {found[key]:.2f} | {shown[0]:.2f} against {shown[1]:.2f} |")
    found["unique_image_share"] = inversions.unique_share
    print(f"| `unique_image_share` | {inversions.unique_share:.2f} | |")
    return found


def ratio(rates: Mapping[str, list[float]], first: str, second: str) -> float:
    """The median of the turns' ratios."""
    return statistics.median(a / b for a, b in zip(rates[first], rates[second], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    turns, units = (1, 2) if arguments.quick else (arguments.turns, 8)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        start_ray(settings(place).cluster, verbose=False)
        try:
            found = measure(place, turns, units)
        finally:
            stop_ray()
    if arguments.json:
        print(json.dumps({key: round(value, 3) for key, value in found.items()}))


if __name__ == "__main__":
    main()
