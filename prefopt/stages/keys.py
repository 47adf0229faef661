"""What each stage's key depends on: its config slice, its parents, and the digests of what lies outside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefopt.config import RunConfig, evaluate, gate, score, train
from prefopt.config.base import Branch
from prefopt.config.ingest import Source as SourceConfig
from prefopt.data.withdrawn import NOTHING, Withdrawn
from prefopt.models.identity import model_digest, vae_digest
from prefopt.models.sources import (
    TrainingWeights,
    compared_weights,
    negative_weights,
    snapshot_weights,
    training_weights,
)

_SOURCE_PLACES = {"path", "images"}


@dataclass(frozen=True)
class StageSpec:
    """A stage as the chain sees it. `code_version` is raised by hand when the same inputs give other output."""

    name: str
    unit: str
    code_version: int
    parents: tuple[str, ...]
    slice: Callable[[RunConfig, "Outside"], Mapping[str, Any]]


@dataclass(frozen=True)
class Outside:
    """What a key takes from outside the config: files and models, by digest."""

    sources: tuple[SourceConfig, ...]
    source_digests: list[Any]
    prompt_digests: list[Any] = field(default_factory=list)
    """Of the files of every prompt set."""
    withdrawn: Withdrawn = NOTHING
    """What ingest leaves out: what the config's file lists, and what was forgotten in the store."""
    withdrawn_key: str | None = None
    """Of what the config's file lists, and of what was forgotten and had rows in these sources; None for nothing."""

    def model(self, config: RunConfig) -> dict[str, str]:
        """Digests of the base model and of the VAE that goes with it."""
        return {"model": model_digest(config.model), "vae": vae_digest(config.model)}

    def weights(self, config: RunConfig) -> TrainingWeights:
        """The base model, the policy's start and the reference, with their digests."""
        return training_weights(config)

    def rewards(self, config: RunConfig, names: tuple[str, ...]) -> dict[str, str]:
        """Versions of reward models."""
        from prefopt.rewards import reward_versions

        return reward_versions(names, config)

    def features(self, config: RunConfig) -> str | None:
        """The version of the image features, digest of their weights included; None where none are measured."""
        from prefopt.features import embedder_spec

        spec = embedder_spec(config)
        return spec.version if spec else None


def planned_visits(config: RunConfig) -> int:
    """How many visits training makes."""
    return config.train.steps * config.train.global_batch


def _ingest(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    branch = config.ingest.model_dump(mode="json", exclude={"sources", "withdrawn"})
    maps = [source.model_dump(mode="json", exclude=_SOURCE_PLACES) for source in outside.sources]
    withdrawn = {"withdrawn": outside.withdrawn_key} if outside.withdrawn_key else {}
    return {**branch, **withdrawn, "limit": config.limit, "maps": maps, "sources": outside.source_digests}


def _inject(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    rewards = tuple(flips.reward for flips in config.inject.flips if flips.kind == "gap")
    batch = config.score.batch if rewards else None
    return {**config.inject.model_dump(mode="json"), "rewards": outside.rewards(config, rewards), "batch": batch}


def _score(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    excluded: dict[str, Any] = {**dict.fromkeys(score.OUTSIDE_KEYS | score.SIZES, True), **score.PLACES}
    sizes, visits = config.score.sizes, config.score.visits
    excluded |= {"visits": _defaults(visits, "timestep_range")}
    return {
        **config.score.model_dump(mode="json", exclude=excluded),
        "sizes": sizes,
        "micro_batch": config.train.micro_batch if len(sizes) > 1 else None,
        "labels": config.labels.model_dump(mode="json"),
        **_inverting(config, outside),
        "rewards": outside.rewards(config, config.score.reward_names()),
        "snapshots": _snapshots(config, outside),
        "visits_planned": planned_visits(config),
        **_going_on(config),
        "reference_errors": config.train.precision if config.train.reference == "cached" else None,
    }


def _defaults(branch: Branch, *later: str) -> set[str]:
    """Those of the fields that came later and have their defaults: left out, they change no earlier key."""
    return {name for name in later if getattr(branch, name) == type(branch).model_fields[name].default}


def _going_on(config: RunConfig) -> dict[str, Any]:
    """What a night leaves out, and where it goes on from a champion: what is old, and the scales that stay frozen."""
    night = config.night
    if night is None:
        return {}
    aside = {"aside": night.aside.sha256} if night.aside.pairs else {}
    champion = night.goes_on_from
    if champion is None:
        return aside
    return {**aside, "known": champion.ingest, "scales": champion.score, "replay": night.replay}


def _snapshots(config: RunConfig, outside: Outside) -> dict[str, Any] | None:
    """The policies on the panel, and what else their preferences depend on."""
    weights = snapshot_weights(config)
    if not weights:
        return None
    return {
        "weights": [source.digest for source in weights],
        **outside.weights(config).reference_digests,
        "precision": config.train.precision,
    }


def _inverting(config: RunConfig, outside: Outside) -> dict[str, str]:
    """The VAE, and the models that invert latents or measure the reference's errors, where some are asked to."""
    vae = {"vae": vae_digest(config.model)}
    if config.score.visits.inversion == "none" and config.train.reference == "live":
        return vae
    return {**vae, **outside.weights(config).reference_digests}


def _card(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    return config.card.model_dump(mode="json")


def _train(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    branch = config.train.model_dump(mode="json", exclude=set(train.OUTSIDE_KEYS | train.PLACES))
    return {**branch, "seed": config.seed, "vae": vae_digest(config.model), **outside.weights(config).digests}


def _drawing(config: RunConfig, outside: Outside) -> dict[str, Any]:
    """What figures depend on, but for a run of one's own. The order of models is what the report is about."""
    excluded: dict[str, Any] = {**dict.fromkeys(evaluate.OUTSIDE_KEYS, True), **evaluate.PLACES}
    excluded |= {"accuracy": _defaults(config.evaluate.accuracy, "timestep_range")}
    from_files = any(chosen.kind != "heldout" for chosen in config.evaluate.prompt_sets)
    return {
        **config.evaluate.model_dump(mode="json", exclude=excluded),
        **outside.model(config),
        "models": [[name, source.digest] for name, source in compared_weights(config).items()],
        "versions": outside.rewards(config, config.evaluate.rewards),
        "features_version": outside.features(config),
        "prompt_files": outside.prompt_digests,
        "limit": config.limit if from_files else None,
        "prompt_bytes": config.ingest.limits.prompt_bytes if from_files else None,
    }


def _evaluate(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    negative = negative_weights(config)
    return {**_drawing(config, outside), "negative_weights": negative.digest if negative else None}


def _drift(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    night = config.night
    known = night.champion.ingest if night and night.champion else None
    fresh = night.fresh.sha256 if night else None
    return {**config.retrain.drift.model_dump(mode="json"), "known": known, "fresh": fresh}


def _gate(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    night = config.night
    assert night is not None, "a gate belongs to a night"
    champion = night.champion.model_dump(mode="json", exclude={"run"}) if night.champion else None
    branch = config.gate.model_dump(mode="json", exclude=set(gate.OUTSIDE_KEYS))
    fixed = night.model_dump(mode="json", include={"number", "after", "full", "level", "audited"})
    return {**branch, **fixed, "champion": champion}


def _compare(config: RunConfig, outside: Outside) -> Mapping[str, Any]:
    unused = ("split", "accuracy", "negative")
    return {name: value for name, value in _drawing(config, outside).items() if name not in unused}


STAGES = {
    spec.name: spec
    for spec in (
        StageSpec("ingest", "vote", 3, (), _ingest),
        StageSpec("inject", "vote", 1, ("ingest",), _inject),
        StageSpec("score", "pair", 3, ("ingest", "inject"), _score),
        StageSpec("card", "vote", 1, ("ingest", "inject", "score"), _card),
        StageSpec("train", "visit", 2, ("ingest", "score"), _train),
        StageSpec("evaluate", "image", 7, ("ingest", "inject", "score", "train"), _evaluate),
    )
}
"""All stages of a run, in order."""

NIGHT = {
    **{name: STAGES[name] for name in ("ingest", "inject", "score")},
    "drift": StageSpec("drift", "pair", 1, ("ingest", "inject", "score"), _drift),
    **{name: STAGES[name] for name in ("train", "evaluate")},
    "gate": StageSpec("gate", "prompt", 1, ("ingest", "drift", "train", "evaluate"), _gate),
}
"""All stages of a night of retraining, in order."""

COMPARISON = {"compare": StageSpec("compare", "image", 1, (), _compare)}
"""Models against each other, without a run."""
