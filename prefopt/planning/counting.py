"""How many votes, pairs and images a run has, without reading a row of its sources."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from prefopt.config import RunConfig, parse_config
from prefopt.config.ingest import PickapicSource, TableSource, WorldSource
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.manifest import is_complete, read_manifest
from prefopt.data.sources import open_source
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError

INGEST = "ingest"
_GIVE_PAIRS = "Give their number with --pairs, or run `prefopt ingest` first."


@dataclass(frozen=True)
class Counts:
    """What there is to work on."""

    votes: int
    pairs: int
    images: int
    """Different ones."""
    by_split: Mapping[str, float]
    """Pairs of each split."""
    prompts: Mapping[str, int] | None
    """Different prompts of each split, where they are known."""
    source: str
    """Where the numbers come from, in words."""
    exact: bool
    """Whether they were counted and not guessed from others."""

    @property
    def train_examples(self) -> float:
        """Labelled examples of the training split where each vote is one; ties are counted too."""
        return self.votes * self.by_split["train"] / max(self.pairs, 1)


def count_data(config: RunConfig, run: Storage, pairs: int | None) -> Counts:
    """By `pairs` if given, else from the run's finished ingest, else from the sources' own metadata.

    Raises ConfigError, which asks for --pairs, where none of them tells.
    """
    if pairs is not None:
        return _guessed(config, votes=pairs, pairs=pairs, source="--pairs")
    logged = logged_config(run, INGEST)
    if logged and (logged.ingest, logged.limit) == (config.ingest, config.limit):
        counted = count_ingested(run)
        if counted is not None:
            return counted
    if config.limit is not None:
        raise ConfigError(
            f"limit keeps the first {config.limit} prompts, and only ingest tells how many pairs these have."
            f" {_GIVE_PAIRS}"
        )
    rows = [_rows(number, source) for number, source in enumerate(config.ingest.sources)]
    return _guessed(
        config,
        votes=sum(votes for votes, _ in rows),
        pairs=sum(pairs for _, pairs in rows),
        source="the sources' metadata: every row a pair, none refused",
    )


def count_ingested(run: Storage) -> Counts | None:
    """From the tables of a run's finished ingest; None if it has none."""
    key = noted_keys(run).get(INGEST)
    if key is None or not is_complete(stage := run.child(f"{INGEST}/{key[:12]}"), key):
        return None
    manifest = read_manifest(stage)
    splits: Counter[str] = Counter()
    prompts: dict[str, set[str]] = {}
    for file in manifest.files_like("pairs-"):
        table = stage.read_table(file, ["split", "prompt"])
        for split in pc.unique(table["split"]).to_pylist():
            inside = table.filter(pc.equal(table["split"], split))
            splits[split] += inside.num_rows
            prompts.setdefault(split, set()).update(pc.unique(inside["prompt"]).to_pylist())
    pairs = splits.total()
    return Counts(
        votes=manifest.rows.out,
        pairs=pairs,
        images=int(manifest.summary.get("images") or 2 * pairs),
        by_split={split: splits[split] for split in ("train", "validation", "test")},
        prompts={split: len(found) for split, found in prompts.items()},
        source="the finished ingest of the run directory",
        exact=True,
    )


def noted_keys(run: Storage) -> dict[str, str]:
    """The keys of a run's stages as its run.json has them; empty if there is none."""
    if run.size("run.json") is None:
        return {}
    keys: dict[str, str] = json.loads(run.read_bytes("run.json"))
    return keys


def logged_config(run: Storage, stage: str) -> RunConfig | None:
    """The config with which a stage of a run was last executed; None if none is there or it is of another version."""
    name = f"logs/{stage}/config.yaml"
    if run.size(name) is None:
        return None
    try:
        return parse_config(yaml.safe_load(run.read_bytes(name)), where=name)
    except (ConfigError, yaml.YAMLError):
        return None


def _guessed(config: RunConfig, votes: int, pairs: int, source: str) -> Counts:
    split = config.ingest.split
    shares = {"train": 1.0 - split.validation - split.test, "validation": split.validation, "test": split.test}
    return Counts(
        votes=votes,
        pairs=pairs,
        images=2 * pairs,
        by_split={name: share * pairs for name, share in shares.items()},
        prompts=None,
        source=source,
        exact=False,
    )


def _rows(number: int, source: SourceConfig) -> tuple[int, int]:
    """(votes, pairs) of a source at most."""
    where = f"ingest.sources.{number} ({source.kind})"
    if isinstance(source, WorldSource):
        each = 1.0 + source.repeated * (source.votes_per_pair - 1)
        return round(each * source.pairs), source.pairs
    if isinstance(source, TableSource) and source.columns.shape == "ranking":
        raise ConfigError(f"{where}: how many pairs its rankings give is known only when they are read. {_GIVE_PAIRS}")
    if not isinstance(source, PickapicSource | TableSource):
        raise ConfigError(f"{where}: its files do not say how many rows they hold. {_GIVE_PAIRS}")
    try:
        rows = sum(_metadata_rows(source, where))
    except InputError as error:
        raise ConfigError(f"{where}: {error} {_GIVE_PAIRS}") from None
    return rows, rows


def _metadata_rows(source: PickapicSource | TableSource, where: str) -> Iterator[int]:
    reader = open_source(source)
    for name in reader.files():
        if not name.endswith(".parquet"):
            raise ConfigError(f"{where}: {name} does not say how many rows it holds. {_GIVE_PAIRS}")
        with reader.root.open_input(name) as stream:
            try:
                yield pq.read_metadata(stream).num_rows
            except (OSError, pa.ArrowException):
                raise ConfigError(f"{where}: {name} is not a whole parquet file. {_GIVE_PAIRS}") from None
