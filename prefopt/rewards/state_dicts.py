"""Published state dicts: read as safetensors, converted once where they are pickled, and loaded strictly."""

import functools
import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prefopt.data.ids import digest
from prefopt.errors import InputError
from prefopt.rewards.node_cache import NodeCache

M = TypeVar("M", bound=nn.Module)
_CONVERTED, _VERSION, _WEIGHTS, _NESTED = "converted", "1", "model.safetensors", "state_dict"
_SHOWN = 5


def read_state_dict(weights: Path, cache: Path, content: str) -> dict[str, Tensor]:
    """The tensors of a weights file by their published names, on the CPU.

    A pickled file is read with weights_only, so that no code of it runs, and kept as safetensors in the cache under
    `content`, which identifies it. InputError if the file cannot be read.
    """
    if weights.suffix != ".safetensors":
        name = digest("converted", _VERSION, weights.name, content)
        weights = NodeCache(cache / _CONVERTED).entry(name, functools.partial(_convert, weights)) / _WEIGHTS
    try:
        return dict(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights} is not a whole safetensors file: {error}. Fetch it again.") from None


def fill(
    make: Callable[[], M],
    published: Mapping[str, Tensor],
    source: Callable[[str], tuple[str, Callable[[Tensor], Tensor]]],
    *,
    ignored: Collection[str] = (),
    what: str,
) -> M:
    """A module with published weights, in eval mode and without gradients.

    `make` builds it; `source` gives, for each of the module's own names, the published name and what to do with its
    tensor. InputError, naming published names, if any is missing, left over (and not `ignored`), or of another shape.
    """
    with torch.device("meta"):
        module = make()
    wanted = {name: source(name) for name in module.state_dict()}
    needed = {name for name, _ in wanted.values()}
    _check_names(needed, published, ignored, what)
    # Copies lie aligned in memory whatever the file's layout, on which the last bits of a product may depend.
    state = {
        name: change(published[origin]).clone(memory_format=torch.contiguous_format)
        for name, (origin, change) in wanted.items()
    }
    for name, tensor in module.state_dict().items():
        if tensor.shape != state[name].shape:
            raise InputError(
                f"{what}: {wanted[name][0]} has the shape {tuple(published[wanted[name][0]].shape)}, which does not fit"
                f" {tuple(tensor.shape)} of the model that its configuration describes."
            )
    module.load_state_dict(state, strict=True, assign=True)
    _restore_positions(module)
    return module.eval().requires_grad_(False)


def refuse_other_names(
    published: Mapping[str, Tensor], prefixes: tuple[str, ...], ignored: Collection[str], what: str
) -> None:
    """Raise InputError, naming them, if there are tensors outside the parts that these prefixes stand for."""
    kept = {name for name in published if name.startswith(prefixes)}
    _check_names(kept, published, ignored, what)


def as_it_is(tensor: Tensor) -> Tensor:
    """No change."""
    return tensor


def same_name(name: str) -> tuple[str, Callable[[Tensor], Tensor]]:
    """A module whose own names are the published ones."""
    return name, as_it_is


def _check_names(needed: set[str], published: Mapping[str, Tensor], ignored: Collection[str], what: str) -> None:
    missing = sorted(needed - published.keys())
    surplus = sorted(published.keys() - needed - set(ignored))
    if missing or surplus:
        found = [f"{word} {_list(names)}" for word, names in (("missing", missing), ("surplus", surplus)) if names]
        raise InputError(f"{what}: {'; '.join(found)}. Is this the published file, and of this reward model?")


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _restore_positions(module: nn.Module) -> None:
    """Give the only buffers that no checkpoint holds their values: 0, 1, 2, ..."""
    for path, buffer in list(module.named_buffers()):
        if buffer.is_meta:
            assert path.endswith("position_ids"), path
            owner, _, name = path.rpartition(".")
            positions = torch.arange(buffer.shape[-1]).expand(buffer.shape).clone()
            setattr(module.get_submodule(owner), name, positions)


def _convert(weights: Path, target: Path) -> None:
    try:
        content: Any = torch.load(weights, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(weights))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(
            f"{weights} cannot be read as weights alone: {detail}. It is damaged, or holds more than tensors, and files"
            " that hold more are never read."
        ) from None
    if isinstance(content, dict) and isinstance(content.get(_NESTED), dict):
        content = content[_NESTED]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{weights} holds no state dict: tensors by name, alone or under {_NESTED!r}.")
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in content.items()}, target / _WEIGHTS)
