"""A config whose local paths do not depend on the directory that a command was started in."""

import os
from typing import Any

from prefopt.config import RunConfig, parse_config
from prefopt.errors import ConfigError
from prefopt.models.identity import with_absolute_places

_READ = ("path", "images", "withdrawn", "cache")
"""Keys of files and directories that must be there."""
_COLUMNS = "columns"
"""Of tables: their names are no places, whatever they are called."""


def settled(config: RunConfig, run_dir: str) -> tuple[RunConfig, str]:
    """The config and its run directory as another process reads them. URIs, and names that are no file here, stay; no
    stage's key changes."""
    tree = with_absolute_places(config).model_dump(mode="json", by_alias=True)
    for name in ("ingest", "evaluate", "rewards"):
        _settle(tree[name])
    tree["store"] = absolute(tree["store"])
    if tree["retrain"]["registry"]:
        tree["retrain"]["registry"] = absolute(tree["retrain"]["registry"])
    return parse_config(tree, config.name), absolute(run_dir)


def check_shared(config: RunConfig, run_dir: str) -> None:
    """ConfigError, naming the key, unless all places are URIs or paths from the root: a relative path would be another
    directory in every pod. Whether pods see the same thing there cannot be told from here."""
    found: list[tuple[str, str | None]] = [
        ("run directory", run_dir),
        ("store", config.store),
        ("retrain.registry", config.retrain.registry),
        ("ingest.withdrawn", config.ingest.withdrawn),
        *(("ingest.sources", getattr(source, "path", None)) for source in config.ingest.sources),
        *(("evaluate.prompt_sets", getattr(chosen, "path", None)) for chosen in config.evaluate.prompt_sets),
    ]
    for key, place in found:
        if place is not None and "://" not in place and not os.path.isabs(place):
            raise ConfigError(
                f"{key} {place}: pods need places that they all see: an s3:// prefix, or the absolute path of a volume"
                " that they share."
            )


def absolute(place: str) -> str:
    """A path from the root; a URI as it is."""
    return place if "://" in place else os.path.abspath(place)


def _settle(node: Any) -> None:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        if key in _READ and isinstance(value, str) and os.path.exists(value):
            node[key] = os.path.abspath(value)
        elif key != _COLUMNS:
            _settle(value)
