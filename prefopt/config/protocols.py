"""How published evaluations drew and counted, as defaults of `evaluate` by name.

A protocol holds what its source states and nothing else: the rest stays at prefopt's defaults, and `unstated` names
it. The resolutions are those of the model families, 512 for SD1.5 and 1024 for SDXL. No protocol brings prompts or
rewards, and none can bring another program's noise: prefopt's own is a function of (seed, prompt, sample).
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

_SD15, _SDXL = {"resolution": 512}, {"resolution": 1024}


@dataclass(frozen=True)
class Protocol:
    """One published way of evaluating, for one model family."""

    source: str
    """The paper, and what of it the settings were read in."""
    sampler: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of `evaluate` itself."""
    remark: str = ""
    """What the settings cannot say."""

    @property
    def defaults(self) -> dict[str, Any]:
        """As a branch of a config."""
        return {**self.settings, "sampler": dict(self.sampler)}

    @property
    def unstated(self) -> tuple[str, ...]:
        """Sampler settings, and others that protocols have, on which the source is silent."""
        known = ("scheduler", "steps", "guidance", "resolution")
        own = ("samples_per_prompt", "seed", "ties")
        silent = [f"sampler.{name}" for name in known if name not in self.sampler]
        return (*silent, *(name for name in own if name not in self.settings))


_DPO = "Diffusion-DPO (arXiv 2311.12908): the public notebook"
_KTO = "Diffusion-KTO: the public code"
_NPO = "Diffusion-NPO (arXiv 2505.11245): the public win-rate script"
_SPO = "SPO: its authors' answer in issue 12 of the public repository"
_SMPO = "SmPO-Diffusion (arXiv 2506.02698): tables as quoted by others; the sampler is not known"
_RETHINKING = "the AAAI-26 study of DPO for diffusion models (arXiv 2505.18736): its page"
_ALPHA = "alpha-DPO: the public code"
_OWN = "The notebook takes the pipeline's default scheduler: here that of each model's own scheduler config."
_INDEX = "The script seeds each image by its index; here it is seeded by (seed, prompt, sample)."
_FIVE = "Five seeds were drawn for the 500 Pick-a-Pic prompts; for larger sets set samples_per_prompt: 1."

PROTOCOLS: Mapping[str, Protocol] = {
    "diffusion_dpo_sd15": Protocol(_DPO, {"scheduler": "own", "guidance": 7.5, **_SD15}, {"average": "mean"}, _OWN),
    "diffusion_dpo_sdxl": Protocol(_DPO, {"scheduler": "own", "guidance": 5.0, **_SDXL}, {"average": "mean"}, _OWN),
    "diffusion_kto_sd15": Protocol(_KTO, {"steps": 50, "guidance": 7.0, **_SD15}, {"average": "mean"}),
    "alpha_dpo_sdxl": Protocol(
        _ALPHA, {"scheduler": "ddim", "steps": 50, "guidance": 5.0, **_SDXL}, {"seed": 42, "average": "mean"}
    ),
    "spo_sd15": Protocol(_SPO, {"scheduler": "ddim", "steps": 20, "guidance": 5.0, **_SD15}, {"average": "mean"}),
    "spo_sdxl": Protocol(_SPO, {"scheduler": "ddim", "steps": 20, "guidance": 5.0, **_SDXL}, {"average": "mean"}),
    "npo_sd15": Protocol(
        _NPO,
        {"scheduler": "dpmsolver++", "steps": 25, "guidance": 7.5, **_SD15},
        {"ties": "nobody", "average": "mean"},
        _INDEX,
    ),
    "npo_sdxl": Protocol(
        _NPO,
        {"scheduler": "dpmsolver++", "steps": 25, "guidance": 5.0, **_SDXL},
        {"ties": "nobody", "average": "mean"},
        _INDEX,
    ),
    "smpo_sd15": Protocol(_SMPO, _SD15, {"average": "median"}),
    "smpo_sdxl": Protocol(_SMPO, _SDXL, {"average": "median"}),
    "rethinking_dpo_sd15": Protocol(
        _RETHINKING, _SD15, {"samples_per_prompt": 5, "ties": "nobody", "average": "mean"}, _FIVE
    ),
    "rethinking_dpo_sdxl": Protocol(
        _RETHINKING, _SDXL, {"samples_per_prompt": 5, "ties": "nobody", "average": "mean"}, _FIVE
    ),
}


def _known(name: str) -> str:
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1, cutoff=0.0)
        raise ValueError(f"unknown protocol: did you mean {near[0]!r}? Known are {', '.join(PROTOCOLS)}")
    return name


ProtocolName = Annotated[str, AfterValidator(_known)]


def with_protocol(branch: dict[str, Any]) -> dict[str, Any]:
    """The branch `evaluate` of a config with its protocol's settings under those that it sets itself; as it is if it
    names no protocol that is known."""
    name = branch.get("protocol")
    protocol = PROTOCOLS.get(name) if isinstance(name, str) else None
    if protocol is None:
        return branch
    given = branch.get("sampler", {})
    if isinstance(given, BaseModel):
        given = given.model_dump(exclude_unset=True)
    sampler = {**protocol.sampler, **given} if isinstance(given, dict) else given
    return {**protocol.settings, **branch, "sampler": sampler}


def departures(name: str, resolved: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What a config sets otherwise than its protocol: key, value, and the protocol's value. `resolved` is the branch
    `evaluate` as a tree."""
    protocol = PROTOCOLS[name]
    for key, stated in protocol.settings.items():
        if resolved[key] != stated:
            yield key, resolved[key], stated
    for key, stated in protocol.sampler.items():
        if resolved["sampler"][key] != stated:
            yield f"sampler.{key}", resolved["sampler"][key], stated
