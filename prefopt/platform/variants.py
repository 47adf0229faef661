"""Variants of a config: each a run of its own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prefopt.errors import ConfigError
from prefopt.platform.configs import given_config
from prefopt.platform.places import absolute

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def planned_variants(config: str, run_dir: str, variants: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """{run_dir, overrides} of every variant, by name in order: `variants/<name>` in the run directory. Without variants
    there is one, the config as it is, in the run directory itself. ConfigError, naming the variant, for one that is no
    valid config."""
    place = absolute(run_dir)
    if not variants:
        return [{"run_dir": place, "overrides": []}]
    for name, overrides in sorted(variants.items()):
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"variant {name!r}: a name has letters, digits, dots, underscores and hyphens, at most 64."
            )
        try:
            given_config(config, overrides)
        except ConfigError as error:
            raise ConfigError(f"variant {name}: {error}") from None
    return [
        {"run_dir": f"{place}/variants/{name}", "overrides": list(overrides)}
        for name, overrides in sorted(variants.items())
    ]
