"""Checks of what a config needs: models, sources, places to write, rewards, trackers, precision, a compiler."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from prefopt.config import RunConfig
from prefopt.config.ingest import Limits, WorldSource
from prefopt.config.ingest import Source as SourceConfig
from prefopt.config.prompts import HeldoutPrompts, PromptSetConfig
from prefopt.config.root import ModelConfig
from prefopt.data.images import check_image
from prefopt.data.sources import Source, open_source
from prefopt.data.sources.base import BadRowError
from prefopt.data.sources.rows import units_with
from prefopt.data.storage import Storage
from prefopt.distributed.training.trackers import check_trackers
from prefopt.doctor.machine import check_disk
from prefopt.doctor.report import Check, ok, problem, warning
from prefopt.doctor.rewards import check_features, check_rewards
from prefopt.errors import PrefoptError
from prefopt.models.identity import EMBEDDED, model_digest, model_directory
from prefopt.prompts import read_prompts

_FIRST_ROWS = 3
_INDEX = "model_index.json"
_COMPILERS = ("cc", "gcc", "clang")


def check_needs(config: RunConfig, run_dir: str) -> Iterator[Check]:
    """All checks of a config, but for the cluster that it runs on."""
    yield check_model("model", config.model)
    for name, path, file in (
        ("model.vae", config.model.vae, "config.json"),
        ("train.init_from", config.train.init_from, _INDEX),
        ("train.reference_from", config.train.reference_from, _INDEX),
    ):
        if path is not None:
            yield check_weights(name, path, file)
    for number, path in enumerate(config.score.panel.snapshots if config.score.panel else ()):
        yield check_weights(f"score.panel.snapshots.{number}", path, _INDEX)
    for name, path in config.evaluate.models.items():
        yield check_weights(f"evaluate.models.{name}", path, _INDEX)
    for number, source in enumerate(config.ingest.sources):
        yield check_source(f"source {number}", source, config.ingest.limits)
    for chosen in config.evaluate.prompt_sets:
        if not isinstance(chosen, HeldoutPrompts):
            yield check_prompts(f"prompts {chosen.name}", chosen, config.ingest.limits)
    for name, place in (("store", config.store), ("run directory", run_dir)):
        yield check_writable(name, place)
        if Storage(place).local:
            yield check_disk(name, place)
    yield from check_rewards(config)
    yield from check_features(config)
    yield check_tracking(config)
    yield check_compiler(config.train.compile)


def check_model(name: str, model: ModelConfig) -> Check:
    """A model in diffusers format whose weights are safetensors, in a directory or on the hub."""
    if model.path == EMBEDDED:
        return ok(name, "The embedded world's, which is part of the package.")
    root = Path(model_directory(model))
    if not root.is_dir():
        return _on_hub(name, model)
    if not (root / _INDEX).is_file():
        return problem(name, f"{model.path} holds no {_INDEX}.", f"Point {name}.path to a model in diffusers format.")
    if not any(root.glob("unet/*.safetensors")):
        return problem(
            name,
            f"{model.path}/unet holds no safetensors file.",
            "Save the model with safe_serialization=True: weights in other formats may run code and are not read.",
        )
    return ok(name, f"{model.path} is there, with safetensors weights.")


def check_weights(name: str, path: str, file: str) -> Check:
    """Other weights: a directory, an earlier run on an object store, or the hub's, known by one of its files."""
    if Path(path).is_dir() or ("://" in path and _any_file(path)):
        return ok(name, f"{path} is there.")
    return _on_hub(name, ModelConfig(path=path), file)


def check_source(name: str, source: SourceConfig, limits: Limits) -> Check:
    """The first rows of a source, with their images."""
    if isinstance(source, WorldSource):
        return ok(name, f"The embedded world writes its {source.pairs} pairs itself.")
    try:
        reader = open_source(source)
        files = reader.files()
        refused, read = _first_rows(reader, files[0], limits)
    except PrefoptError as error:
        return problem(name, str(error), f"Check the path and the format of ingest.sources ({source.kind}).")
    where = f"{len(files)} file{'s' if len(files) > 1 else ''} at {source.path}"
    if not read:
        return problem(name, f"{where}: the first holds no row.", "Remove empty files or give the right path.")
    if len(refused) == read:
        return problem(name, f"{where}: the first rows are refused: {refused[0]}.", "Check the column map and images.")
    if refused:
        return warning(
            name,
            f"{where}: of the first {read} rows {len(refused)} would be set aside: {refused[0]}.",
            "The data card counts such rows after `prefopt ingest`.",
        )
    return ok(name, f"{where}: the first rows and their images can be read.")


def check_prompts(name: str, chosen: PromptSetConfig, limits: Limits) -> Check:
    """All prompts of a set that lies in files."""
    try:
        found = read_prompts(chosen, limits)
    except PrefoptError as error:
        return problem(name, str(error), f"Mend the file, or the path in evaluate.prompt_sets ({chosen.kind}).")
    skipped = sum(found.skipped.values())
    return ok(name, f"{len(found.prompts):,} prompts{f', {skipped:,} skipped' if skipped else ''}.")


def check_writable(name: str, place: str) -> Check:
    """Whether files can be written; nothing is left behind."""
    try:
        storage = Storage(place)
        if not storage.local:
            storage.check_writable()
            return ok(name, f"{place} answers and can be written to.")
        directory = Path(place).absolute()
        while not directory.exists():
            directory = directory.parent
        with tempfile.TemporaryFile(dir=directory):
            return ok(name, f"{place} can be written to.")
    except (PrefoptError, OSError) as error:
        scheme = urlsplit(place).scheme
        advice = (
            "Check the bucket's name, the credentials (AWS_ACCESS_KEY_ID or a role), AWS_ENDPOINT_URL and the network."
            if scheme
            else "Choose another directory, or ask for the right to write there."
        )
        return problem(name, f"Cannot write to {place}: {' '.join(str(error).split())}", advice)


def check_tracking(config: RunConfig) -> Check:
    """The packages of the configured trackers."""
    wanted = config.train.trackers
    try:
        check_trackers(wanted)
    except PrefoptError as error:
        return problem("trackers", str(error), "Install the package, or change train.trackers.")
    names = [name for name, chosen in wanted.model_dump().items() if chosen]
    return ok("trackers", f"{', '.join(names) or 'none'}; steps.jsonl is always written.")


def check_compiler(wanted: bool) -> Check:
    """torch.compile is the only thing that needs a compiler."""
    name = "torch.compile"
    if not wanted:
        return ok(name, "Not asked for, so no compiler is needed.")
    if any(shutil.which(compiler) for compiler in _COMPILERS):
        return ok(name, "A compiler is on the PATH of this machine; the workers need one too.")
    return problem(name, "train.compile needs a C compiler, and none is on the PATH.", "Set train.compile to false.")


def _any_file(uri: str) -> bool:
    try:
        return any(Storage(uri).exists(file) for file in ("run.json", _INDEX, "adapter_config.json"))
    except PrefoptError:
        return False


def _on_hub(name: str, model: ModelConfig, file: str = _INDEX) -> Check:
    from huggingface_hub import constants, try_to_load_from_cache

    field = "model.path" if name == "model" else name
    try:
        model_digest(model)
    except PrefoptError:
        return problem(name, f"There is no directory {model.path}, nor is it a hub id.", f"Check {field}.")
    if isinstance(try_to_load_from_cache(model.path, file, revision=model.revision), str):
        return ok(name, f"{model.path} is in the local cache of the hub.")
    if constants.HF_HUB_OFFLINE:
        return problem(
            name,
            f"{model.path} is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it.",
            f"Fetch it on a machine that may, or set {field} to a directory.",
        )
    return warning(
        name,
        f"{model.path} is not in the local cache of the hub: the first run fetches it.",
        f"Make sure that every machine reaches the hub, or set {field} to a directory.",
    )


def _first_rows(reader: Source, file: str, limits: Limits) -> tuple[list[str], int]:
    """Why rows would be refused, and how many were read."""
    refused, read = [], 0
    for unit in units_with(reader.root, file, list(range(_FIRST_ROWS))):
        for where, row, values in islice(reader.rows(unit), _FIRST_ROWS - read):
            read += 1
            try:
                for cell in reader.parse(values).images:
                    data = cell.data if cell.data is not None else reader.image_bytes(cell.path, limits.image_bytes)
                    check_image(data, limits, full=True)
            except BadRowError as error:
                refused.append(f"{os.path.basename(where)} row {row}: {error.reason} ({error})")
    return refused, read
