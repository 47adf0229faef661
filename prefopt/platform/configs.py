"""Configs as pipelines give them: a text, a path or a URI."""

from collections.abc import Sequence

from prefopt.config import RunConfig, load_text
from prefopt.data.storage import Storage


def config_text(config: str) -> str:
    """The YAML that a string is, or that lies at the path or URI that it is: one line without ": " is a place.

    StorageError if nothing can be read there.
    """
    if not _is_place(config):
        return config
    directory, _, name = config.rpartition("/")
    return Storage(directory or ("/" if config.startswith("/") else ".")).read_bytes(name).decode(errors="replace")


def given_config(config: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The checked config of such a string, with KEY=VALUE overrides. Raises as `config_text`, and ConfigError."""
    return load_text(config_text(config), config if _is_place(config) else "the config", overrides)


def _is_place(config: str) -> bool:
    return "\n" not in config and ": " not in config
