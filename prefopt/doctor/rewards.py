"""Checks of the reward models and image features that a config names: known, their weights or endpoints in reach."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants

from prefopt.config import RunConfig
from prefopt.config.rewards import PLACES, PUBLISHED, HttpModel, shown_url
from prefopt.doctor.report import Check, ok, problem, warning
from prefopt.errors import PrefoptError
from prefopt.features.registry import FIELD, FILES
from prefopt.models.identity import is_hub_id
from prefopt.rewards import REWARDS, hub, reward_spec
from prefopt.rewards.files import FileSet
from prefopt.rewards.places import present_files
from prefopt.rewards.published import field_of, files_of, is_published_pickle

_SECONDS = 3.0
_FETCH = "Make sure that every machine that computes rewards reaches the hub, or set {field} to a directory."


def used_rewards(config: RunConfig) -> list[str]:
    """Names of all rewards that some stage computes, sorted."""
    names = {*config.score.reward_names(), *config.evaluate.rewards}
    names |= {flips.reward for flips in config.inject.flips if flips.kind == "gap"}
    if config.train.health.evaluation:
        names.add(config.train.health.evaluation.reward)
    return sorted(names)


def check_rewards(config: RunConfig) -> Iterator[Check]:
    """One check of the names, and one for each reward that needs something from outside."""
    names = used_rewards(config)
    unknown: list[str] = []
    outside: list[Check] = []
    for name in names:
        if name in REWARDS and name not in config.rewards.models:
            continue
        model = config.rewards.model(name)
        if isinstance(model, HttpModel):
            outside.append(_endpoint(name, model))
        elif model is not None and model.kind in PUBLISHED:
            outside += _weights(name, config)
        else:
            try:
                reward_spec(name, config)
            except PrefoptError as error:
                unknown.append(str(error))
    if unknown:
        yield problem("rewards", " ".join(unknown), "Choose one that is known, or name it under rewards.models.")
    else:
        yield ok("rewards", f"{', '.join(names)}.")
    yield from outside


def check_features(config: RunConfig) -> Iterator[Check]:
    """The weights of the image features; none where there are none, or they are the base model's VAE."""
    features = config.evaluate.features
    if features is not None and features.kind != "vae":
        yield _place("features", features.weights, FIELD, FILES, config.rewards.allow_pickles, known_pickle=False)


def _endpoint(name: str, model: HttpModel) -> Check:
    """Whether somebody takes connections there. Nothing is scored."""
    parts = urlsplit(model.url)
    check, shown = f"reward {name}", shown_url(model.url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=_SECONDS):
            return ok(check, f"{shown} takes connections from this machine.")
    except OSError as error:
        return warning(
            check,
            f"{shown} takes no connection from this machine: {' '.join(str(error).split())}.",
            "The machines that compute rewards must reach it; see whether it runs.",
        )


def _weights(name: str, config: RunConfig) -> Iterator[Check]:
    """Whether the weights are there, or can be expected to be fetched."""
    model = config.rewards.model(name)
    assert model is not None
    places = files_of(model)
    allow = config.rewards.allow_pickles
    for role in PLACES:
        if role in places:
            where, field = getattr(model, role), field_of(name, role)
            known_pickle = is_published_pickle(model, role)
            yield _place(f"reward {name} {role}", where, field, places[role], allow, known_pickle)


def _place(name: str, where: str, field: str, files: FileSet, allow_pickles: bool, known_pickle: bool) -> Check:
    if "://" in where or Path(where).is_dir():
        try:
            files.choose(present_files(where, files), where, field, allow_pickles)
        except PrefoptError as error:
            return problem(name, str(error), f"Set {field}, or the permission that it asks for.")
        return ok(name, f"{where} holds what is needed.")
    repository, _, revision = where.partition("@")
    if not is_hub_id(repository):
        return problem(name, f"There is no directory {where}, nor is it a hub id.", f"Check {field}.")
    if known_pickle and not allow_pickles:
        return problem(
            name,
            f"{where} has pickled weights alone ({files.pickled[0]}).",
            f"Set rewards.allow_pickles: true, or convert them and set {field} to a place that holds {files.safe[0]}.",
        )
    return _on_hub(name, repository, revision, field, files)


def _on_hub(name: str, repository: str, revision: str, field: str, files: FileSet) -> Check:
    where = f"{repository}@{revision}" if revision else repository
    there = hub.cached(repository, revision) if hub.is_commit(revision) else None
    present = {file for file in files.names if there is not None and (there / file).is_file()}
    weights = {*files.safe, *files.pickled}
    if present.issuperset(files.needed) and (not weights or present & weights):
        return ok(name, f"{where} is in the local cache of the hub.")
    if constants.HF_HUB_OFFLINE:
        return problem(
            name,
            f"{where} is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it.",
            f"Fetch it on a machine that may, or set {field} to a directory.",
        )
    unpinned = "" if hub.is_commit(revision) else " No commit is named: another day it may be other weights."
    return warning(
        name,
        f"{where} is not in the local cache of the hub: it is fetched when it is first needed.{unpinned}",
        _FETCH.format(field=field),
    )
