"""Evaluations whose images tell their model by their colour, and annotators who like some models more."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, PngImagePlugin

from prefopt.data.ids import digest, prompt_id, row_rng
from prefopt.distributed.evaluate import IMAGE_ROWS, PROMPT_ROWS
from prefopt.human.export import Exported, Selection, export_pairs
from prefopt.human.pairs import Key
from prefopt.stages.base import StageOutput
from tests.kit.stages import finished

COLOURS = {"base": 10, "tuned": 200, "third": 90}
EVERYTHING = Selection()


def drawn_png(model: str, number: int, sample: int) -> bytes:
    """A small image: red tells the model, green and blue the prompt and sample; its metadata tell the model, too."""
    image = Image.new("RGB", (4, 4), (COLOURS[model], number % 256, 16 * (number // 256) + sample))
    told = PngImagePlugin.PngInfo()
    told.add_text("model", model)
    stream = io.BytesIO()
    image.save(stream, format="PNG", pnginfo=told, icc_profile=b"profile of " + model.encode(), dpi=(72, 72))
    return stream.getvalue()


def model_of(png: bytes) -> str:
    """Which model drew an image, or a copy of it."""
    with Image.open(io.BytesIO(png)) as image:
        red = np.asarray(image.convert("RGB"))[0, 0, 0]
    return {colour: model for model, colour in COLOURS.items()}[int(red)]


def evaluation(
    directory: Path,
    *,
    prompts: int = 6,
    samples: int = 1,
    models: Sequence[str] = ("base", "tuned"),
    key: str | None = None,
    missing: int = 0,
) -> StageOutput:
    """A finished evaluate stage in two units per model; the last model lacks `missing` prompts."""
    texts = [f"a picture, number {number}" for number in range(prompts)]
    half = -(-prompts // 2)
    tables: dict[str, pa.Table] = {
        "prompts-00000": pa.Table.from_pylist(
            [
                {
                    "prompt_id": prompt_id(text),
                    "prompt": text,
                    "set": "even" if number % 2 == 0 else "odd",
                    "category": "",
                    "challenge": "",
                }
                for number, text in enumerate(texts)
            ],
            schema=PROMPT_ROWS,
        )
    }
    for model in models:
        last = prompts - missing if model == models[-1] else prompts
        for unit, numbers in enumerate((range(half), range(half, last))):
            rows = [
                {
                    "prompt_id": prompt_id(texts[number]),
                    "prompt": texts[number],
                    "sample": sample,
                    "png": drawn_png(model, number, sample),
                }
                for number in numbers
                for sample in range(samples)
            ]
            tables[f"images-{model}-{unit:05d}"] = pa.Table.from_pylist(rows, schema=IMAGE_ROWS)
    return finished(directory, "evaluate", tables, key=key)


def exported(
    output: StageOutput,
    place: Path,
    selection: Selection = EVERYTHING,
    models: Sequence[str] = ("base", "tuned"),
    folder: str = "pairs",
) -> tuple[Exported, list[dict[str, str]]]:
    """An export to place/pairs from a run in place/run, and the rows of pairs.csv."""
    from prefopt.data.storage import Storage

    target = place / folder
    made = export_pairs(output, Storage(str(place / "run")), str(target), models=models, seed=0, selection=selection)
    return made, rows_of(target)


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The rows of an exported folder's pairs.csv."""
    return list(csv.DictReader(io.StringIO((folder / "pairs.csv").read_text(encoding="utf-8"), newline="")))


def votes_csv(rows: Iterable[Sequence[str]], header: Sequence[str] = ("annotator_id", "pair_id", "choice")) -> bytes:
    """A votes file."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue().encode()


def judgements(
    key: Key, shown: Sequence[str], *, annotators: int, each: int, rate: float, steady: float = 1.0
) -> list[tuple[str, str, str]]:
    """`each` annotators per pair, who choose the model that is not the first with probability `rate`.

    On a repetition they make the same choice as before with probability `steady`, else the other one.
    """
    rows: list[tuple[str, str, str]] = []
    first = key.models[0]
    for pair_id in shown:
        pair = key.pairs[pair_id]
        origin = pair.repeats or pair_id
        for number in row_rng(1, "who", origin).choice(annotators, each, replace=False):
            name = f"person {number}"
            other = row_rng(1, "taste", origin, name).random() < rate
            if pair.repeats and row_rng(1, "again", origin, name).random() >= steady:
                other = not other
            wanted = next(model for model in (pair.left, pair.right) if (model != first) == other)
            rows.append((name, pair_id, "left" if wanted == pair.left else "right"))
    return rows


def small_key(count: int = 4, **changed: Any) -> Key:
    """A key of `count` prompts without images."""
    from prefopt.human.pairs import DrawnImage, make_key

    drawn = [DrawnImage(prompt_id=digest("prompt", str(n)), prompt=f"p{n}", sample=0) for n in range(count)]
    settings: dict[str, Any] = {"models": ("base", "tuned"), "evaluation": "e" * 64, "seed": 0, **changed}
    return make_key(drawn, **settings)
