import random
from collections.abc import Sequence

import pytest
import torch

from prefopt.config.root import ModelConfig
from prefopt.distributed.training import prompts as module
from prefopt.distributed.training.prompts import PromptEmbeddings
from prefopt.models.families import Conditioning, Pipeline, encode_prompts
from prefopt.models.loading import load_pipeline
from tests.kit.models import TINY, TOKENS, WIDTH

TEXTS = [f"a {colour} {shape}" for colour in ("red", "blue", "green") for shape in ("circle", "square", "cross")]
BATCH = 4


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    return {
        name: load_pipeline(ModelConfig(path=str(write(tmp_path_factory.mktemp(name) / "model"))), vae=None, unet=None)
        for name, write in TINY.items()
    }


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every batch of texts that is encoded."""
    batches: list[list[str]] = []

    def note(pipeline: Pipeline, texts: Sequence[str]) -> Conditioning:
        batches.append(list(texts))
        return encode_prompts(pipeline, texts)

    monkeypatch.setattr(module, "encode_prompts", note)
    return batches


def _same(a: Conditioning, b: Conditioning) -> bool:
    pairs = ((a.states, b.states), (a.pooled, b.pooled))
    return all(x is y is None or (x is not None and y is not None and torch.equal(x, y)) for x, y in pairs)


@pytest.mark.parametrize("family", list(TINY))
def test_what_was_kept_changes_nothing(
    pipelines: dict[str, Pipeline], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr(module, "_MB", 1000)
    one = 4 * TOKENS * WIDTH  # 2 kB
    makers = [
        PromptEmbeddings(pipelines[family], TEXTS, batch=BATCH, cache_mb=cache)
        for cache in (0, 1 + 2 * one // 1000, 1000)
    ]
    draw = random.Random(0)
    for _ in range(12):
        indices = [draw.randrange(len(TEXTS)) for _ in range(6)]
        empty = [draw.random() < 0.3 for _ in indices]
        first, *others = (maker.get(indices, empty) for maker in makers)
        assert all(_same(first, other) for other in others)
        fresh = PromptEmbeddings(pipelines[family], TEXTS, batch=BATCH)
        alone = Conditioning.cat([fresh.get([i], [e]) for i, e in zip(indices, empty, strict=True)])
        assert _same(first, alone)


def test_each_prompt_is_encoded_once_while_there_is_room(
    pipelines: dict[str, Pipeline], encoded: list[list[str]]
) -> None:
    maker = PromptEmbeddings(pipelines["sd15"], TEXTS, batch=BATCH, cache_mb=1)
    maker.get([0, 1, 0, 2], [False, False, False, True])
    assert encoded == [[TEXTS[0], TEXTS[1], "", ""]]
    maker.get([0, 1, 5], [True, False, False])
    assert encoded[1:] == [[TEXTS[5], "", "", ""]]


def test_sdxl_encodes_anew_and_duplicates_once(pipelines: dict[str, Pipeline], encoded: list[list[str]]) -> None:
    maker = PromptEmbeddings(pipelines["sdxl"], TEXTS, batch=BATCH, cache_mb=1000)
    for _ in range(2):
        maker.get([3, 3, 3], [False, False, False])
    assert encoded == [[TEXTS[3], "", "", ""]] * 2


def test_more_prompts_than_a_batch_are_cut_into_whole_batches(
    pipelines: dict[str, Pipeline], encoded: list[list[str]]
) -> None:
    maker = PromptEmbeddings(pipelines["sd15"], TEXTS, batch=BATCH)
    assert maker.get(range(9), [False] * 9).states.shape[0] == 9
    assert [len(texts) for texts in encoded] == [BATCH] * 3


def test_what_is_used_least_recently_goes_first(
    pipelines: dict[str, Pipeline], encoded: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MB", 4 * TOKENS * WIDTH)
    maker = PromptEmbeddings(pipelines["sd15"], TEXTS, batch=1, cache_mb=2)
    for index in (0, 1, 0, 2, 0, 1):
        maker.get([index], [False])
    assert encoded == [[TEXTS[0]], [TEXTS[1]], [TEXTS[2]], [TEXTS[1]]]
