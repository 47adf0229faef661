"""What the UNet is told about the prompts of a run: computed when it is needed, kept while there is room."""

from collections import OrderedDict
from collections.abc import Sequence

from prefopt.models.families import Conditioning, Pipeline, encode_prompts, family_of

_EMPTY = -1
_MIB = 2**20


class PromptEmbeddings:
    """Conditionings of a list of prompts, and of the empty prompt.

    Prompts are encoded in padded batches of `batch`, since an embedding depends on its batch's size: what has been
    kept changes nothing. Where computing is cheaper than reading (SDXL) nothing is kept.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        prompts: Sequence[str],
        resolution: int,
        *,
        batch: int,
        cache_mb: int = 0,
    ) -> None:
        self._pipeline, self._prompts = pipeline, prompts
        self._resolution, self._batch = resolution, batch
        self._room = cache_mb * _MIB if family_of(pipeline).caches_prompts else 0
        self._kept: OrderedDict[int, Conditioning] = OrderedDict()
        self._bytes = 0

    def get(self, indices: Sequence[int], empty: Sequence[bool]) -> Conditioning:
        """Of prompts by index, [B, ...]; where `empty` is set, of the empty prompt."""
        wanted = [_EMPTY if drop else index for index, drop in zip(indices, empty, strict=True)]
        known = {index: self._kept[index] for index in dict.fromkeys(wanted) if index in self._kept}
        known |= self._encode([index for index in dict.fromkeys(wanted) if index not in known])
        self._keep(known)
        return Conditioning.cat([known[index] for index in wanted])

    def _encode(self, indices: Sequence[int]) -> dict[int, Conditioning]:
        encoded: dict[int, Conditioning] = {}
        for start in range(0, len(indices), self._batch):
            part = indices[start : start + self._batch]
            texts = ["" if index == _EMPTY else self._prompts[index] for index in part]
            padded = texts + [""] * (self._batch - len(texts))
            told = encode_prompts(self._pipeline, padded, self._resolution)
            encoded |= {index: told.select([row]) for row, index in enumerate(part)}
        return encoded

    def _keep(self, used: dict[int, Conditioning]) -> None:
        for index, told in used.items():
            if index not in self._kept:
                self._bytes += told.nbytes
            self._kept[index] = told
            self._kept.move_to_end(index)
        while self._bytes > self._room:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
