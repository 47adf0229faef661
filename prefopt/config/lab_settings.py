"""What a laboratory sets in its runs: dotted keys of a run's config, one after the other."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from prefopt.errors import ConfigError


class Erasure(NamedTuple):
    """A key that takes with it what an earlier one has set."""

    key: str
    lost: str


def is_below(key: str, other: str) -> bool:
    """Whether a key lies in the branch that another one names: train.steps in train."""
    return key.startswith(f"{other}.")


def erasure(keys: Sequence[str]) -> Erasure | None:
    """The first of these keys, in the order in which they are set, that names a branch in which an earlier one lies;
    None where nothing is lost, as with train.objective before train.objective.beta."""
    for place, key in enumerate(keys):
        for lost in keys[:place]:
            if is_below(lost, key):
                return Erasure(key, lost)
    return None


def _nothing_is_erased(given: dict[str, Any]) -> dict[str, Any]:
    found = erasure(list(given))
    if found:
        raise ValueError(
            f"{found.key!r} replaces a whole branch, and would erase {found.lost!r}, which stands before it: write"
            f" what is meant as keys below it, such as '{found.key}.KEY', or put {found.key!r} first"
        )
    return given


Settings = Annotated[dict[str, Any], AfterValidator(_nothing_is_erased)]
"""Dotted keys of a run's config, and their values, in the order in which they are set."""
Candidates = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], AfterValidator(_nothing_is_erased)]
"""Dotted keys of a run's config, and the values to try: every combination is a candidate."""

_METHODS, _NOISES, _TUNING = "methods", "noises", "tuning"
_OF_METHOD, _OF_TUNING = ("set", "tune"), ("set", "candidates")


def override_path(tree: dict[str, Any], key: str) -> list[str]:
    """Where in a laboratory's config `--set KEY=VALUE` puts the value. A key of a run stays whole, as train.steps in
    methods.dpo.set.train.steps, and so do names of methods and noises, which may hold dots. ConfigError for a part of
    a method or noise that is not there, or where two may be meant."""
    branch, _, rest = key.partition(".")
    if branch == _TUNING:
        return [branch, *_kept_whole(rest, _OF_TUNING)] if rest else [branch]
    if branch not in (_METHODS, _NOISES) or "." not in rest:
        return key.split(".")
    named = tree.get(branch)
    name = _name(branch, rest, named if isinstance(named, dict) else ())
    if rest == name:
        return [branch, name]
    inner = rest.removeprefix(f"{name}.")
    return [branch, name, *([inner] if branch == _NOISES else _kept_whole(inner, _OF_METHOD))]


def _kept_whole(key: str, fields: Sequence[str]) -> list[str]:
    field, _, inner = key.partition(".")
    return [field, inner] if field in fields and inner else key.split(".")


def _name(branch: str, rest: str, known: Iterable[str]) -> str:
    found = [name for name in known if rest == name or is_below(rest, name)]
    if len(found) == 1:
        return found[0]
    told = f"--set {branch}.{rest}: "
    if found:
        raise ConfigError(f"{told}this may mean {' or '.join(map(repr, found))}. Change the laboratory's file instead.")
    raise ConfigError(
        f"{told}none of the {branch} has a name that this begins with: {', '.join(known)}. A new one is given whole, as"
        f" '{branch}.NAME={{...}}'; if its name holds a dot, in the laboratory's file."
    )
