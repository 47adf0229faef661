"""From new data and a champion to the config of one night."""

import math
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from prefopt.config import RunConfig, parse_config
from prefopt.config.evaluate import CHAMPION
from prefopt.config.retrain import ChampionConfig, NightConfig, PairsConfig
from prefopt.data.manifest import read_manifest
from prefopt.data.storage import Storage
from prefopt.data.tables import read_tables
from prefopt.errors import ConfigError
from prefopt.registry import Champion, Record, Watermark
from prefopt.retraining.trail import Trail
from prefopt.stages.base import StageOutput
from prefopt.stages.champion import known_pairs


def champion_config(champion: Champion) -> ChampionConfig:
    """The champion with the keys of the data that it was trained on. InputError if its manifests are gone."""
    train = read_manifest(Storage(champion.run).child(f"train/{champion.train[:12]}"))
    return ChampionConfig(
        run=champion.run,
        train=champion.train,
        digest=champion.digest,
        ingest=train.parents["ingest"],
        score=train.parents["score"],
    )


def new_pairs(ingest: StageOutput, seen: StageOutput | None, aside: frozenset[str] = frozenset()) -> frozenset[str]:
    """Pairs of the training split with a vote that is not in `seen`, an earlier ingest stage. Those set aside are left
    out."""
    pairs = read_tables(ingest, "pairs-", ["pair_id", "split"])
    training = frozenset(pairs.filter(pc.equal(pairs["split"], "train"))["pair_id"].to_pylist()) - aside
    if seen is None:
        return training
    return training - known_pairs(read_tables(ingest, "votes-", ["vote_id", "pair_id"]), seen)


def watermark(ingest: StageOutput) -> Watermark:
    """Which data a night has read. Times of votes that are no ISO 8601 are left out."""
    votes = read_tables(ingest, "votes-", ["time"])
    times = [found for text in votes["time"].unique().to_pylist() if (found := _time(text))]
    newest = max(times).isoformat() if times else None
    return Watermark(ingest=ingest.manifest.key, votes=votes.num_rows, newest=newest)


def _time(text: str | None) -> datetime | None:
    """In UTC, which is taken where none is given."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def is_full(config: RunConfig, champion: ChampionConfig | None, trail: Trail) -> bool:
    """Whether the next night trains from the base: the first one, and after so many promotions."""
    every = config.retrain.full_every
    return champion is None or (every is not None and trail.since_full >= every)


def night_config(
    config: RunConfig,
    history: list[Record],
    trail: Trail,
    champion: ChampionConfig | None,
    new: int,
    *,
    full: bool,
    fresh: PairsConfig,
    aside: PairsConfig,
) -> RunConfig:
    """The config of the night: the config itself, with the champion as start and as rival, and as many steps as `new`
    pairs are worth. ConfigError if the config does not allow for it."""
    if config.evaluate.features is None:
        raise ConfigError(
            "evaluate.features is null, but a night bounds the distance from the base: choose features, such as"
            " {kind: vae}."
        )
    number = len(history) + 1
    night = NightConfig(
        number=number,
        after=history[-1].sha256 if history else None,
        champion=champion,
        full=full,
        level=trail.level(config.gate.false_promotions),
        replay=0.0 if full else config.retrain.replay,
        fresh=fresh,
        aside=aside,
        audited=(0, 0) if full else trail.audited,
    )
    tree = config.model_dump(mode="json", by_alias=True)
    tree["night"] = night.model_dump(mode="json")
    for chosen in tree["evaluate"]["prompt_sets"]:
        chosen["order"] = number if chosen["rotates"] else chosen["order"]
    if champion is not None:
        tree["evaluate"]["models"] = {CHAMPION: champion.run, **_others(config)}
    if champion is not None and not full:
        _go_on(tree["train"], config, champion, new)
    return parse_config(tree, f"night {number}")


def steps_for(config: RunConfig, new: int) -> int:
    """Optimizer steps that visit `new` pairs as often as the config says, with replayed ones among them; never more
    than a training from the base takes."""
    visits = new * config.retrain.visits_per_pair / (1.0 - config.retrain.replay)
    return max(1, min(config.train.steps, math.ceil(visits / config.train.global_batch)))


def _others(config: RunConfig) -> dict[str, str]:
    if CHAMPION in config.evaluate.models:
        raise ConfigError(f"evaluate.models: in retraining {CHAMPION} is the registry's: choose another name.")
    return dict(config.evaluate.models)


def _go_on(train: dict[str, Any], config: RunConfig, champion: ChampionConfig, new: int) -> None:
    train["init_from"] = champion.run
    train["steps"] = steps_for(config, new)
    if config.retrain.reference == "champion":
        train["reference_from"] = champion.run
