"""What a published model is made from: its files on this machine, and how to compute."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prefopt.config.base import Branch
from prefopt.errors import InputError
from prefopt.rewards.places import Files, Place, Sources
from prefopt.rewards.state_dicts import read_state_dict

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def read_with(make: Callable[[str], Any], file: Path) -> Any:
    """What transformers makes of the directory of a file. InputError, naming the file, if it cannot."""
    try:
        return make(str(file.parent))
    # Below transformers, tokenizers raises plain exceptions.
    except Exception as error:
        raise InputError(f"Cannot use {file}: {' '.join(str(error).split())[:200]}") from error


@dataclass(frozen=True)
class Parts:
    """Given to the `load` of each module of a reward or of image features."""

    name: str
    model: Branch
    """The config's branch that describes it."""
    files: Mapping[str, Files]
    """By the name of the config field that gives the place."""
    digests: Mapping[str, str]
    cache: Path
    device: str
    precision: str

    @classmethod
    def fetch(
        cls, name: str, model: Branch, places: Mapping[str, Place], sources: Sources, *, device: str, precision: str
    ) -> "Parts":
        """With the files of all places on this machine. InputError if they are not there or are others."""
        return cls(
            name=name,
            model=model,
            files={role: place.fetch(sources) for role, place in places.items()},
            digests={role: place.digest for role, place in places.items()},
            cache=sources.cache,
            device=device,
            precision=precision,
        )

    def directory(self, role: str) -> Path:
        """Where the files of a place are."""
        return self.files[role].directory

    def state_dict(self, role: str) -> dict[str, Tensor]:
        """The weights of a place by their published names. InputError if they cannot be read."""
        weights = self.files[role].weights
        assert weights is not None
        return read_state_dict(weights, self.cache, self.digests[role])

    def placed(self, *modules: nn.Module) -> None:
        """Move modules to the device and precision."""
        for module in modules:
            module.to(self.device, _DTYPES[self.precision])
