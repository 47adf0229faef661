"""Look at what lies outside a run: source files, prompt sets and the embedded world's data set."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from prefopt.config import RunConfig
from prefopt.config.ingest import FolderSource, Hpdv2Source, Limits, PickapicSource, TableSource, WorldSource
from prefopt.config.ingest import Source as SourceConfig
from prefopt.config.prompts import HeldoutPrompts, PromptSetConfig
from prefopt.data.ids import canonical_hash
from prefopt.data.sources import open_source
from prefopt.data.sources.files import ImageFiles
from prefopt.data.storage import Storage
from prefopt.data.withdrawn import Withdrawn, read_store_list, read_withdrawn
from prefopt.prompts import open_prompt_set, read_prompts
from prefopt.stages.keys import Outside
from prefopt.world import WORLD_VERSION

_MEMORY = "source_digests.json"
_COMPLETE = "complete.json"


def look_outside(config: RunConfig, store: Storage) -> Outside:
    """Write out an embedded world if one is a source, digest every source file, and check and digest prompt sets.

    Digests are remembered in the store by size and modification time. InputError if a source has no files, or a prompt
    set or a list of what is withdrawn cannot be read: that is found before the first stage, not after training.
    """
    sources = tuple(_settled(source, store) for source in config.ingest.sources)
    memory = json.loads(store.read_bytes(_MEMORY)) if store.exists(_MEMORY) else {}
    seen = dict(memory)
    digests = [_source_digests(source, seen) for source in sources]
    withdrawn, key = _withdrawn(config, store, digests)
    prompts = [_prompt_digests(chosen, config.ingest.limits, seen) for chosen in config.evaluate.prompt_sets]
    if seen != memory:
        store.write_bytes(_MEMORY, json.dumps(seen, sort_keys=True).encode())
    return Outside(sources, digests, prompts, withdrawn, key)


def _withdrawn(config: RunConfig, store: Storage, digests: list[list[Any]]) -> tuple[Withdrawn, str | None]:
    """What ingest leaves out, and what of it belongs to ingest's key.

    What was forgotten in the store is part of the key only where it had rows in these sources: to forget one pair
    changes no other data set's key. A row of it that comes back in a file that nobody had read then is left out too.
    """
    if not config.ingest.sources:
        return Withdrawn(), None
    listed = read_withdrawn(config.ingest.withdrawn) if config.ingest.withdrawn else Withdrawn()
    forgotten = read_store_list(store)
    files = (sha256 for of_source in digests for _, _, sha256 in of_source)
    return listed | forgotten.all, (listed | forgotten.touching(files)).key


def _settled(source: SourceConfig, store: Storage) -> SourceConfig:
    """A source as every worker finds it, whatever its working directory."""
    if not isinstance(source, WorldSource):
        places = {name: getattr(source, name, None) for name in ("path", "images")}
        local = {name: os.path.abspath(place) for name, place in places.items() if place and "://" not in place}
        return source.model_copy(update=local)
    asked = source.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
    asked |= {"pairs": source.pairs, "seed": source.seed}
    parameters = {"world_version": WORLD_VERSION, **asked}
    place = store.child(f"world/{canonical_hash(parameters)[:16]}")
    if not place.exists(_COMPLETE):
        from prefopt.world.dataset import write_dataset

        with tempfile.TemporaryDirectory() as scratch:
            write_dataset(Path(scratch), **asked)
            for file in sorted(Path(scratch).rglob("*.parquet")):
                place.write_bytes(f"data/{file.relative_to(scratch).as_posix()}", file.read_bytes())
        place.write_bytes(_COMPLETE, json.dumps(parameters, sort_keys=True).encode())
    table = PickapicSource(kind="pickapic", path=f"{place.uri}/data", group_column="user_group")
    return _settled(table, store)


def _source_digests(source: SourceConfig, memory: dict[str, Any]) -> list[Any]:
    reader = open_source(source)
    roots = [(reader.root, reader.files())]
    if isinstance(source, Hpdv2Source | FolderSource | TableSource):
        images = ImageFiles(source.images or reader.root.uri)
        roots.append((images.root, images.root.files() if source.images else images.names()))
    return [[name, *_digest(root, name, memory)] for root, names in roots for name in names]


def _prompt_digests(chosen: PromptSetConfig, limits: Limits, memory: dict[str, Any]) -> list[Any]:
    """Format, size and sha256 of each file of a set; its name and place are left out."""
    if isinstance(chosen, HeldoutPrompts):
        return []
    prompts = open_prompt_set(chosen)
    read_prompts(chosen, limits, prompts)
    return [[name.rpartition(".")[2], *_digest(root, name, memory)] for root, name in prompts.files()]


def _digest(root: Storage, name: str, memory: dict[str, Any]) -> tuple[int, str]:
    info: pafs.FileInfo = root.info(name)
    path = root.path(name)
    known = memory.get(path)
    if known and known["size"] == info.size and known["mtime_ns"] == info.mtime_ns:
        return info.size, known["sha256"]
    with root.open_input(name) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    memory[path] = {"size": info.size, "mtime_ns": info.mtime_ns, "sha256": sha256}
    return info.size, sha256
