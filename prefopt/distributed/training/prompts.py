"""What the UNet is told about the prompts of a run: computed when it is needed, kept while there is room."""

from collections import OrderedDict
from collections.abc import Sequence

from prefopt.models.families import Conditioning, Pipeline, encode_prompts, family_of

_EMPTY = -1
_MB = 10**6


class PromptEmbeddings:
    """Conditioning of a list of prompts, and of the empty prompt.

    Prompts are encoded in padded batches of `batch`, since an embedding depends on its batch's size and on nothing
    else there: what has been kept changes no result. Families whose embeddings are small keep those used last, at most
    `cache_mb` in host memory; where computing is cheaper than reading (SDXL) nothing is kept.
    """

    def __init__(self, pipeline: Pipeline, prompts: Sequence[str], *, batch: int, cache_mb: int = 0) -> None:
        self._pipeline, self._prompts, self._batch = pipeline, prompts, batch
        self._room = cache_mb * _MB if family_of(pipeline).caches_prompts else 0
        self._kept: OrderedDict[int, Conditioning] = OrderedDict()
        self._bytes = 0

    def get(self, indices: Sequence[int], empty: Sequence[bool]) -> Conditioning:
        """One row per prompt, by index; where `empty` is set, the empty prompt's."""
        rows = [_EMPTY if drop else index for index, drop in zip(indices, empty, strict=True)]
        wanted = list(dict.fromkeys(rows))
        device = self._pipeline.text_encoder.device
        known = {row: self._kept[row].to(device) for row in wanted if row in self._kept}
        known |= self._encode([row for row in wanted if row not in known])
        for row in wanted:
            self._keep(row, known[row])
        return Conditioning.cat([known[row] for row in rows])

    def _encode(self, rows: Sequence[int]) -> dict[int, Conditioning]:
        encoded: dict[int, Conditioning] = {}
        for start in range(0, len(rows), self._batch):
            part = rows[start : start + self._batch]
            texts = ["" if row == _EMPTY else self._prompts[row] for row in part]
            padded = texts + [""] * (self._batch - len(texts))
            told = encode_prompts(self._pipeline, padded)
            encoded |= {row: told.select([place]) for place, row in enumerate(part)}
        return encoded

    def _keep(self, row: int, told: Conditioning) -> None:
        if row in self._kept:
            self._kept.move_to_end(row)
            return
        if told.nbytes > self._room:
            return
        self._kept[row] = told.to("cpu")
        self._bytes += told.nbytes
        while self._bytes > self._room:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
