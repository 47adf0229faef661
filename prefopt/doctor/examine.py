"""All checks in order."""

from collections.abc import Iterator, Sequence

from prefopt.config import RunConfig, load_config
from prefopt.doctor.machine import check_machine
from prefopt.doctor.report import Check, count, ok, problem
from prefopt.errors import ConfigError


def examine(
    config: str | None, run_dir: str | None, overrides: Sequence[str] = (), *, start_ray: bool = False
) -> Iterator[Check]:
    """Checks of this machine, and of a config if one is given; a config that cannot be read is a check that failed.

    With packages missing or of the wrong version it ends after the machine: all else needs them.
    """
    machine = list(check_machine())
    yield from machine
    if count(machine, "problem"):
        return
    from prefopt.doctor.cluster import check_cluster, check_ray
    from prefopt.doctor.needs import check_needs

    if config is None:
        if start_ray:
            yield check_ray(None, start_ray)[0]
        return
    tree = _load(config, overrides)
    if isinstance(tree, Check):
        yield tree
        return
    yield ok("config", f"{config} is valid.")
    yield from check_needs(tree, run_dir or f"runs/{tree.name}")
    yield from check_cluster(tree, start_ray)


def _load(config: str, overrides: Sequence[str]) -> RunConfig | Check:
    try:
        return load_config(config, overrides)
    except ConfigError as error:
        return problem("config", str(error), "Mend it: until then nothing else of it can be checked.")
