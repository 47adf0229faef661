"""Read a config file strictly: an error names the field, the cause and the nearest valid key."""

import difflib
import itertools
import re
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from prefopt.config.evaluate import BASE, TUNED
from prefopt.config.root import RunConfig
from prefopt.errors import ConfigError

_COMPARED = ("name", "store", "cluster", "rewards", "evaluate", "limit")
"""Branches that a comparison takes whole; of `model` it takes `vae`, of `ingest` `limits`."""
MAX_CONFIG_BYTES = 1_000_000


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Load and check a run config.

    `overrides` are KEY=VALUE with a dotted key and a YAML value. Raises ConfigError for a missing or
    unreadable file, a bad override, an unknown key or an impossible value.
    """
    return load_text(read_text(Path(path)), str(path), overrides)


def load_text(text: str, where: str, overrides: Sequence[str] = ()) -> RunConfig:
    """`load_config` of a text that was read elsewhere; `where` names it in errors."""
    tree = parsed_text(text, where)
    for override in overrides:
        apply_override(tree, override)
    return parse_config(tree, where)


def load_comparison(path: str | Path | None, models: Sequence[str], overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a comparison of models, the first of which is the base: hub ids (owner/name or owner/name@revision)
    or directories; the others may also be LoRA weights or earlier runs.

    A config file gives all the rest, as what is drawn and which rewards judge; a run's config will do. Raises
    ConfigError as `load_config`, for fewer than two models, and for prompts that only a run has.
    """
    if len(models) < 2:
        raise ConfigError("--models needs at least two models, the first of which is the base.")
    given: dict[str, Any] = parsed_text(read_text(Path(path)), str(path)) if path else {"name": "comparison"}
    tree = {name: branch for name, branch in given.items() if name in _COMPARED or name not in RunConfig.model_fields}
    for name, kept in (("model", "vae"), ("ingest", "limits")):
        branch = given.get(name)
        tree[name] = {kept: branch[kept]} if isinstance(branch, dict) and kept in branch else {}
    base, _, revision = models[0].partition("@") if not Path(models[0]).exists() else (models[0], "", "")
    tree["model"] |= {"path": base, "revision": revision or None}
    for override in overrides:
        apply_override(tree, override)
    evaluate = tree.setdefault("evaluate", {})
    if isinstance(evaluate, dict):
        evaluate["models"] = dict(zip(_names(models[1:]), models[1:], strict=True))
        evaluate.pop("negative", None)
        evaluate.setdefault("allow_training_rewards", True)
    where = str(path) if path else "--models"
    config = _checked(tree, where)
    if config.evaluate.draws_heldout:
        raise ConfigError(
            f"{where}: evaluate.prompt_sets holds the held-out prompts of a run, which a comparison does not have: name"
            " others, for example --set 'evaluate.prompt_sets=[{kind: file, path: prompts.txt}]'."
        )
    return config


def _names(places: Sequence[str]) -> list[str]:
    """Names for models, from the last parts of their places; a repeated one gets a number."""
    names: list[str] = []
    for place in places:
        last = re.sub(r"[^A-Za-z0-9._-]", "-", place.rstrip("/").rpartition("/")[2])[:50].lstrip("._-") or "model"
        taken = {BASE, TUNED, *names}
        numbered = itertools.chain([last], (f"{last}-{number}" for number in itertools.count(2)))
        names.append(next(name for name in numbered if name not in taken))
    return names


def parse_config(tree: dict[str, Any], where: str) -> RunConfig:
    """Check the config tree of a run; `where` names it in errors (ConfigError)."""
    config = _checked(tree, where)
    if not config.ingest.sources:
        raise ConfigError(f"{where}: ingest.sources: at least 1 item is needed: the data that the run reads.")
    return config


def _checked(tree: dict[str, Any], where: str) -> RunConfig:
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        found = error.errors()
        unknown = [problem for problem in found if problem["type"] == "extra_forbidden"]
        problems = "; ".join(_describe(problem) for problem in unknown or found)
        raise ConfigError(f"{where}: {problems}.") from None


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML that `load_config` reads back to the same tree."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False)


def read_text(path: Path) -> str:
    """The text of a config file. ConfigError if it cannot be read."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes: this is not a config file.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot read the config {path}: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}.") from None


def parsed_text(text: str, where: str) -> dict[str, Any]:
    """The tree of a config's text. ConfigError if it is none."""
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{where} is larger than {MAX_CONFIG_BYTES} bytes: this is not a config file.")
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{where} is not valid YAML: {detail}.") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} must hold a mapping of config keys, not {type(tree).__name__}.")
    return tree


def _by_dots(tree: dict[str, Any], key: str) -> list[str]:
    return key.split(".")


def apply_override(
    tree: dict[str, Any], override: str, path: Callable[[dict[str, Any], str], list[str]] = _by_dots
) -> None:
    """Change a config's tree by KEY=VALUE, a dotted key and a YAML value. `path` splits the key, by default at every
    dot. ConfigError where it cannot be."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r}: write KEY=VALUE, for example --set train.steps=100.")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {override!r}: the value is not valid YAML.") from None
    node: Any = tree
    *parents, last = path(tree, key)
    for depth, part in enumerate(parents):
        node = _child(node, part, where=".".join(parents[: depth + 1]))
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"--set {override!r}: {'.'.join(parents)} is not a mapping.")


def _child(node: Any, part: str, where: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, where)]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {where}: not a mapping.")
    if node.get(part) is None:
        node[part] = {}
    return node[part]


def _index(node: list[Any], part: str, where: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {where}: {part!r} is not an index of a list of {len(node)}.")
    return int(part)


def _describe(problem: Any) -> str:
    location = list(problem["loc"])
    field = _dotted(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        return f"unknown key {field!r}: {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (given: {_without_secrets(given)!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{field + ': ' if field else ''}{message}{shown}"


def _without_secrets(given: str | int | float) -> str | int | float:
    """A value as an error may show it: without the user and password of a URL."""
    return re.sub(r"(?<=://)[^/@]*@", "***@", given) if isinstance(given, str) else given


def _dotted(location: Sequence[Any]) -> str:
    """The key as a user writes it: pydantic's union tags are left out."""
    keys: list[str] = []
    node: Any = RunConfig
    for part in location:
        options = _models(node)
        tagged = [m for m in options if part in _tags(m)]
        if tagged and not any(part in _aliases(m) for m in options):
            node = tagged[0]
            continue
        keys.append(str(part))
        node = _descend(options, node, part)
    return ".".join(keys)


def _known_keys(location: Sequence[Any]) -> list[str]:
    node: Any = RunConfig
    for part in location:
        options = _models(node)
        tagged = [m for m in options if part in _tags(m)]
        node = tagged[0] if tagged else _descend(options, node, part)
    return [name for model in _models(node) for name in _aliases(model)]


def _descend(options: list[type[BaseModel]], node: Any, part: Any) -> Any:
    if isinstance(part, int):
        arguments = typing.get_args(_plain(node))
        return arguments[0] if arguments else node
    if typing.get_origin(_plain(node)) is dict:
        return typing.get_args(_plain(node))[1]
    for model in options:
        if part in _aliases(model):
            return _aliases(model)[part]
    return None


def _aliases(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _tags(model: type[BaseModel]) -> set[Any]:
    return {
        value
        for field in ("kind", "name", "shape")
        if field in model.model_fields
        for value in typing.get_args(model.model_fields[field].annotation)
    }


def _plain(node: Any) -> Any:
    while typing.get_origin(node) is typing.Annotated:
        node = typing.get_args(node)[0]
    return node


def _models(node: Any) -> list[type[BaseModel]]:
    """The config classes that may stand at a node."""
    node = _plain(node)
    if isinstance(node, type) and issubclass(node, BaseModel):
        return [node]
    if typing.get_origin(node) in (typing.Union, types.UnionType):
        return [model for option in typing.get_args(node) for model in _models(option)]
    return []
