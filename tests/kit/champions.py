"""Finished runs with a tuned model of a few bytes, and places for a registry."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefopt.data.ids import digest
from prefopt.data.storage import Storage
from prefopt.models.identity import LORA_WEIGHTS
from tests.kit.s3 import object_store
from tests.kit.stages import finished


def trained_run(uri: str, name: str) -> str:
    """A run whose train stage has made an adapter, local or on an object store; gives its place."""
    run, key = Storage(f"{uri}/{name}"), digest("run", name) * 2
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        model.mkdir()
        (model / LORA_WEIGHTS).write_bytes(f"weights of {name}".encode())
        (model / "notes.json").write_text("{}")
        files = ["model/notes.json", f"model/{LORA_WEIGHTS}"]
        made = finished(Path(scratch), "train", {}, extra=files, key=key, count=1).storage
        for file in made.files():
            run.write_bytes(f"train/{key[:12]}/{file}", made.read_bytes(file))
    run.write_bytes("run.json", json.dumps({"train": key}).encode())
    return run.uri


def weights_of(run: str) -> str:
    """The file of a run's adapter, relative to the run."""
    (file,) = [file for file in Storage(run).files() if file.endswith(LORA_WEIGHTS)]
    return file


@contextmanager
def places(kind: str, directory: Path) -> Iterator[str]:
    """A URI to write below: `local` or `s3`."""
    if kind == "local":
        yield str(directory)
        return
    with object_store() as uri:
        yield uri
