"""What the page of the laboratory asks of its outcomes: which methods play which part, and the bounds of the claims."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from prefopt.config.base import Branch, Positive, Share

Name = Annotated[str, Field(min_length=1)]


class ClaimBounds(Branch):
    """The publications' claims as figures that an interval can decide. They state no bounds: these are prefopt's."""

    kept: Share = 0.9
    """Of its clean gain, that Adaptive-DPO keeps at least."""
    lost: Share = 0.25
    """Of its clean gain, that Diffusion-DPO loses at least."""
    kept_rate: Share = 0.3
    """The share of flipped labels at which gains are compared with clean ones."""
    auroc: Share = 0.85
    """Of the online u for flipped labels, and for minority labels where they are known, at least."""
    auroc_rate: Share = 0.2
    """The share of flipped labels at which u is judged."""
    rival_rates: tuple[Share, ...] = (0.2, 0.3)
    """Shares of flipped labels at which Adaptive-DPO meets its rivals."""
    work: Positive = 1 / 3
    """The share of UNet work with which the other families are as good as the first one at its end."""


class AnalysisConfig(Branch):
    """Which of the laboratory's methods play which part; defaults that it does not have play none. The page leaves out,
    and names, methods without outcomes."""

    reference: Name = "dpo"
    """The method that the others are compared with."""
    adaptive: Name = "adaptive_dpo"
    rivals: tuple[Name, ...] = ("dpo", "rdpo", "majority_vote")
    """Methods that `adaptive` is claimed to be better than."""
    baselines: tuple[Name, ...] = ("majority_vote", "filter_minority", "flip_minority")
    """Relabelling in place of a robust objective; they stand next to `adaptive` in tables."""
    methods: tuple[Name, ...] = ()
    """Shown in the tables of noise, in this order. Empty: reference, adaptive and baselines, then all others by name
    that stand neither in `ablation` nor in `families`."""
    ablation: tuple[Name, ...] = ()
    """Methods from the plainest to the whole, each with one part more than the one before."""
    families: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    """One method in several lengths of training, the longest last. The first family sets the quality to be reached."""
    claims: ClaimBounds = ClaimBounds()
    title: str | None = None
    """Of the page; by default the laboratory's name."""
    about: dict[Name, str] = Field(default_factory=dict)
    """By method, what a reader must know to compare it: whether it sees rewards, or is told the share of flips."""
    stem: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")] = "lab"
    """The page is STEM.md and its pictures STEM-*.svg, so that several laboratories can share a directory."""
    notes: str | None = None
    """Markdown, beside the page, that goes into it as it stands, by default STEM-notes.md; nothing if there is no such
    file."""

    @model_validator(mode="after")
    def _lists_make_sense(self) -> "AnalysisConfig":
        for field, names in (("baselines", self.baselines), ("methods", self.methods), ("ablation", self.ablation)):
            _refuse_repeated(field, names)
        if len(self.ablation) == 1:
            raise ValueError("ablation needs at least two methods: each is compared with the one before")
        for family, names in self.families.items():
            _refuse_repeated(f"families.{family}", names)
            if len(names) < 2:
                raise ValueError(f"families.{family} needs at least two lengths of training")
        if len(self.families) == 1:
            raise ValueError("families needs at least two: the first sets the quality that the others must reach")
        return self

    @property
    def file(self) -> str:
        """Name of the page."""
        return f"{self.stem}.md"

    @property
    def notes_file(self) -> str:
        """Name of the file of notes."""
        return self.notes or f"{self.stem}-notes.md"

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """Methods by the field that names them, of fields that the config gives; those of defaults may not be there."""
        lists = {"rivals": self.rivals, "baselines": self.baselines, "methods": self.methods, "ablation": self.ablation}
        families = {f"families.{family}": names for family, names in self.families.items()}
        every = {"reference": (self.reference,), "adaptive": (self.adaptive,), **lists, "about": tuple(self.about)}
        return {field: names for field, names in every.items() if field in self.model_fields_set} | families

    @property
    def parts(self) -> frozenset[str]:
        """Methods that stand for a step of an ablation or a length of training."""
        return frozenset({*self.ablation, *(name for names in self.families.values() for name in names)})


def _refuse_repeated(field: str, names: Iterable[str]) -> None:
    seen = list(names)
    twice = sorted({name for name in seen if seen.count(name) > 1})
    if twice:
        raise ValueError(f"{field} names {', '.join(twice)} more than once")
