"""The laboratory: which runs are made, how their settings are chosen, and what is asked of them."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from prefopt.config.base import Branch, Count
from prefopt.config.lab_page import AnalysisConfig
from prefopt.config.lab_settings import Candidates, Settings, is_below, override_path
from prefopt.config.load import apply_override, parsed_text, read_text
from prefopt.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ,.%+_-]{0,47}$")]


class MethodConfig(Branch):
    """A way to train: an objective with its labels and latents."""

    set: Settings = Field(default_factory=dict)
    tune: Candidates | None = None
    """By default `tuning.candidates`."""
    like: str | None = None
    """Another method, whose chosen settings this one takes untuned, but for those that it sets itself: for ablations,
    which change one thing."""


class TuningConfig(Branch):
    """How a method's settings are chosen: by the headline score over the base on the validation split."""

    noise: str
    """The noise that is tuned on."""
    seeds: tuple[int, ...] = (1000,)
    """Apart from the grid's, so that no cell was chosen on its own data."""
    candidates: Candidates = Field(default_factory=dict)
    """Of every method that has none of its own."""
    set: Settings = Field(default_factory=dict)
    """Changes of the run for tuning cells alone."""


class BudgetConfig(Branch):
    """When to stop, and go on another time."""

    cells: Count | None = None
    """That are begun."""
    minutes: Annotated[float, Field(ge=0.0)] | None = None
    """After which none is begun."""


class LabConfig(Branch):
    """A grid of runs: method x noise x seed."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    run: str
    """The config that all runs share; a relative path is seen from the laboratory's own file."""
    methods: Annotated[dict[Name, MethodConfig], Field(min_length=1)]
    noises: Annotated[dict[Name, Settings], Field(min_length=1)]
    """By name, what each noise sets. The first is what gains are compared with: clean labels."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    seeded: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "seed",
        "inject.seed",
        "score.visits.seed",
        "evaluate.seed",
    )
    """Keys of the run's config that take a cell's seed."""
    tuning: TuningConfig | None = None
    """None: every method runs with the settings that it has."""
    truth: str | None = None
    """A reward that knows what the majority truly prefers: labels against it are minority labels."""
    outcomes: str | None = None
    """A file of outcomes, a URI or a path seen from the laboratory's own file, that is read and added to: cells that it
    holds are not run again, on whatever machine they ran. By default outcomes.jsonl in the run directory."""
    workers: Count | None = None
    """Cells at a time; by default one for each CPU, or each GPU if cells need one."""
    budget: BudgetConfig = BudgetConfig()
    page: AnalysisConfig = AnalysisConfig()
    """Which methods play which part on the page of results."""

    @model_validator(mode="after")
    def _the_first_noise_is_none(self) -> "LabConfig":
        rates = {name: flip_rate(noise) for name, noise in self.noises.items()}
        first = next(iter(rates))
        if rates[first] != 0.0:
            raise ValueError(
                f"noises.{first}: the first noise is clean labels, with which the others are compared: set"
                " inject.flips: [], and nothing else"
            )
        known = [rate for rate in rates.values() if rate is not None]
        if len(set(known)) < len(known):
            raise ValueError(f"two noises flip the same share of labels: {', '.join(rates)}")
        return self

    @model_validator(mode="after")
    def _seeds_are_apart(self) -> "LabConfig":
        tuned = self.tuning.seeds if self.tuning else ()
        for field, seeds in (("seeds", self.seeds), ("tuning.seeds", tuned)):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{field} names a seed twice: {list(seeds)}")
        both = sorted(set(self.seeds) & set(tuned))
        if both:
            raise ValueError(f"seeds and tuning.seeds share {both}: cells would be judged on what chose their settings")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> "LabConfig":
        if self.tuning and self.tuning.noise not in self.noises:
            raise ValueError(f"tuning.noise {self.tuning.noise!r} is none of the noises: {', '.join(self.noises)}")
        for name, method in self.methods.items():
            if method.like is None:
                continue
            if method.like not in self.methods or self.methods[method.like].like is not None:
                raise ValueError(f"methods.{name}.like {method.like!r} must be a method that is tuned itself")
            if method.tune is not None:
                raise ValueError(f"methods.{name}: `like` and `tune` exclude each other")
        return self

    @model_validator(mode="after")
    def _nobody_is_tuned_more(self) -> "LabConfig":
        if self.tuning is None:
            tuned = [name for name, method in self.methods.items() if method.tune]
            if tuned:
                raise ValueError(f"methods.{tuned[0]}.tune needs `tuning`")
            return self
        counts = {name: len(self.candidates(name)) for name, method in self.methods.items() if method.like is None}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(f"every method must have equally many candidates: {told}")
        return self

    @model_validator(mode="after")
    def _candidates_are_tried(self) -> "LabConfig":
        for name, method in self.methods.items():
            if method.like is not None:
                continue
            for key in self._tried(name):
                for own in method.set:
                    if own == key or is_below(own, key):
                        raise ValueError(
                            f"methods.{name}.set.{own} and the candidates for {key} exclude each other: leave one of"
                            f" them out, or give the method candidates of its own (methods.{name}.tune)"
                        )
                for changed in self.tuning.set if self.tuning else ():
                    if changed == key or is_below(changed, key) or is_below(key, changed):
                        raise ValueError(
                            f"tuning.set.{changed} changes what the candidates for {key} of {name} try: leave it out"
                        )
        return self

    @model_validator(mode="after")
    def _the_page_names_methods(self) -> "LabConfig":
        for field, names in self.page.named.items():
            unknown = [name for name in names if name not in self.methods]
            if unknown:
                raise ValueError(
                    f"page.{field}: {unknown[0]!r} is none of the methods, which are {', '.join(self.methods)}"
                )
        return self

    def candidates(self, method: str) -> list[Settings]:
        """The settings that tuning tries for a method: one, empty, where nothing is tuned."""
        tried = self._tried(method)
        return [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]

    def _tried(self, method: str) -> Candidates:
        own = self.methods[method].tune
        if own is not None:
            return own
        return self.tuning.candidates if self.tuning else {}

    @property
    def cells(self) -> int:
        """Of the grid."""
        return len(self.methods) * len(self.noises) * len(self.seeds)


def flip_rate(noise: Settings) -> float | None:
    """Share of labels that are flipped at random, where a noise is nothing else; 0 for clean labels."""
    flips = noise.get("inject.flips")
    if set(noise) != {"inject.flips"} or not isinstance(flips, list):
        return None
    if not flips:
        return 0.0
    only = flips[0] if len(flips) == 1 and isinstance(flips[0], dict) else {}
    rate = only.get("rate") if only.get("kind") == "symmetric" else None
    return float(rate) if isinstance(rate, int | float) else None


def load_lab(path: str | Path, overrides: Sequence[str] = ()) -> LabConfig:
    """Read a laboratory's config; `run` and `outcomes` become absolute paths. `overrides` are KEY=VALUE, as
    `load_config` takes them, with keys of a run whole (`override_path`). ConfigError for what is no such file."""
    place = Path(path)
    tree = parsed_text(read_text(place), str(path))
    for override in overrides:
        apply_override(tree, override, override_path)
    try:
        config = LabConfig.model_validate(tree)
    except ValidationError as error:
        problems = "; ".join(_described(problem) for problem in error.errors())
        raise ConfigError(f"{path}: {problems}.") from None
    here = place.resolve().parent
    places = {"run": str(here / config.run)}
    if config.outcomes is not None and "://" not in config.outcomes:
        places["outcomes"] = str(here / config.outcomes)
    return config.model_copy(update=places)


def _described(problem: Any) -> str:
    field = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
