"""Write blinded pairs of an evaluation's images for a labelling tool: a folder that is there whole, or not at all."""

import csv
import io
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from prefopt.data.storage import Storage
from prefopt.data.tables import Finished
from prefopt.errors import ConfigError, InputError, StorageError
from prefopt.human.pairs import KEY, DrawnImage, Key, chosen_pairs, human_directory, image_name, make_key, write_key
from prefopt.human.texts import INSTRUCTIONS, README

PROMPTS = "prompts-00000.parquet"
COLUMNS = ("pair_id", "prompt", "left", "right", "annotator_id", "choice")
_Place = tuple[str, str, int]
_EPOCH = 315532800
"""1980, which every archive can hold: the time of every exported file."""


@dataclass(frozen=True)
class Selection:
    """Which pairs are exported."""

    pairs: int | None = None
    """At most so many different pairs; None takes all."""
    repeat_share: float = 0.0
    """Share of them that is shown a second time with swapped sides."""
    prompt_set: str | None = None
    """Only prompts of this set of the evaluation."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: str
    key: str
    evaluation: str
    models: tuple[str, ...]
    pairs: int
    repeats: int

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "models": list(self.models)}


def check_folder(folder: str) -> None:
    """ConfigError unless `folder` can become the exported one: local, and not there or an empty directory."""
    if "://" in folder:
        raise ConfigError(f"--export-pairs writes a local folder, not {folder}: copy it afterwards.")
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{folder} is there already and not an empty folder: name a new one for --export-pairs.")


def export_pairs(
    evaluation: Finished, run: Storage, folder: str, *, models: Sequence[str], seed: int, selection: Selection
) -> Exported:
    """Write pairs.csv, images/, README.txt and instructions.txt to `folder`, and key.json below human/ of the run.

    Each of `models` is paired with the first of them. The same evaluation, seed and selection give the same bytes.
    Raises ConfigError for a folder that is not empty, a prompt set that is not there, or no pairs; InputError for
    images that cannot be read or that one model lacks.
    """
    check_folder(folder)
    key = make_key(_drawn(evaluation, models), models, evaluation.manifest.key, seed)
    shown = chosen_pairs(
        key,
        most=selection.pairs,
        repeat_share=selection.repeat_share,
        prompts=_prompts_of(evaluation, selection.prompt_set),
    )
    if not shown:
        raise ConfigError("There are no pairs to export: the evaluation holds no images of these prompts.")
    private = human_directory(run, evaluation.manifest.key)
    with _whole(Path(folder)) as place:
        (place / "images").mkdir()
        _write_images(evaluation, key, shown, place)
        (place / "pairs.csv").write_bytes(_csv(key, shown))
        (place / "README.txt").write_text(README.format(pairs=len(shown)), encoding="utf-8")
        (place / "instructions.txt").write_text(INSTRUCTIONS, encoding="utf-8")
        write_key(private, key)
    repeats = sum(key.pairs[pair_id].repeats is not None for pair_id in shown)
    return Exported(folder, f"{private.uri}/{KEY}", key.evaluation, key.models, len(shown) - repeats, repeats)


def clean_png(data: bytes) -> bytes:
    """The RGB pixels of a PNG as a PNG without anything else: no text, profile, time or EXIF."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        pixels = image.convert("RGB")
    stream = io.BytesIO()
    Image.frombytes("RGB", pixels.size, pixels.tobytes()).save(stream, format="PNG")
    return stream.getvalue()


def _image_files(evaluation: Finished, model: str) -> list[str]:
    pattern = re.compile(rf"images-{re.escape(model)}-\d+\.parquet")
    return [entry.path for entry in evaluation.manifest.files if pattern.fullmatch(entry.path)]


def _drawn(evaluation: Finished, models: Sequence[str]) -> list[DrawnImage]:
    """What the models have drawn; InputError unless it is the same for all."""
    found: dict[str, list[DrawnImage]] = {}
    for model in models:
        rows: list[dict[str, Any]] = []
        for file in _image_files(evaluation, model):
            rows += evaluation.storage.read_table(file, ["prompt_id", "prompt", "sample"]).to_pylist()
        found[model] = sorted((DrawnImage(**row) for row in rows), key=lambda image: (image.prompt_id, image.sample))
    first = found[models[0]]
    for model, images in found.items():
        if not images or images != first:
            raise InputError(
                f"{evaluation.storage.uri} does not hold an image of {model} for each one of {models[0]}: the"
                " evaluation is damaged. Remove this directory and evaluate again."
            )
    return first


def _prompts_of(evaluation: Finished, prompt_set: str | None) -> set[str] | None:
    if prompt_set is None:
        return None
    table = evaluation.storage.read_table(PROMPTS, ["prompt_id", "set"])
    sets = table["set"].to_pylist()
    if prompt_set not in sets:
        names = ", ".join(sorted(set(sets)))
        raise ConfigError(f"The evaluation has no prompt set {prompt_set!r}. --prompt-set can be: {names}.")
    pairs = zip(table["prompt_id"].to_pylist(), sets, strict=True)
    return {prompt_id for prompt_id, name in pairs if name == prompt_set}


def _write_images(evaluation: Finished, key: Key, shown: Sequence[str], place: Path) -> None:
    wanted: dict[_Place, list[str]] = defaultdict(list)
    for pair_id in shown:
        pair = key.pairs[pair_id]
        for side, model in (("left", pair.left), ("right", pair.right)):
            name = image_name(key, pair_id, side)
            wanted[model, pair.drawn.prompt_id, pair.drawn.sample].append(name)
    for model in key.models:
        for file in _image_files(evaluation, model):
            table = evaluation.storage.read_table(file, ["prompt_id", "sample", "png"])
            _write_some(table, model, wanted, place, f"{evaluation.storage.uri}/{file}")


def _write_some(table: pa.Table, model: str, wanted: Mapping[_Place, Sequence[str]], place: Path, where: str) -> None:
    columns = (table[name] for name in ("prompt_id", "sample", "png"))
    for prompt_id, sample, png in zip(*columns, strict=True):
        names = wanted.get((model, prompt_id.as_py(), sample.as_py()))
        if not names:
            continue
        try:
            clean = clean_png(png.as_py())
        except (OSError, SyntaxError) as error:
            raise InputError(
                f"{where} holds an image that cannot be read ({error}): remove the evaluation and evaluate again."
            ) from None
        for name in names:
            (place / name).write_bytes(clean)


def _csv(key: Key, shown: Sequence[str]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for pair_id in shown:
        sides = (image_name(key, pair_id, side) for side in ("left", "right"))
        writer.writerow([pair_id, key.pairs[pair_id].drawn.prompt, *sides, "", ""])
    return stream.getvalue().encode()


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when the block ends without an error."""
    target = folder.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".tmp-", dir=target.parent))
        try:
            yield place
            for path in (*place.rglob("*"), place):
                os.utime(path, (_EPOCH, _EPOCH))  # else the order in which images were written tells their models
            place.chmod(0o755)
            os.replace(place, target)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"Cannot write the pairs to {folder}: {error.strerror or error}.") from error
