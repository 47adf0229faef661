"""What separates one store of latents, inversions or reference errors from another."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig
from prefopt.config.base import Size
from prefopt.data.storage import Storage
from prefopt.distributed.stores import inverted_family, latent_family, latent_stores, reference_family
from prefopt.models.identity import vae_digest
from prefopt.models.sources import training_weights
from tests.kit.models import SIZE, TINY
from tests.kit.training import training_config

TALL = Size(40, 24)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name) / "model") for name, write in TINY.items()}


def config(place: Path, **score: Any) -> RunConfig:
    return training_config(place, place / "store", inversion="renoise", score=score)


def families(made: RunConfig, size: Size) -> list[dict[str, Any]]:
    return [family(made, size) for family in (latent_family, inverted_family, reference_family)]


def test_a_square_in_float32_has_the_store_of_always(places: dict[str, Path]) -> None:
    """Rows of stores that older versions filled are found."""
    made = config(places["sd15"])
    x0 = {"vae": vae_digest(made.model), "resolution": 32, "shape": [4, 8, 8], "dtype": "float32", "version": 1}
    visits = {"inversion": "renoise", "steps": 2, "renoise_steps": 1, "grid": "exact", "batch": 32}
    models = training_weights(made).reference_digests
    measured = {"precision": "fp32", "attention": "sdpa", "device": "cpu"}
    assert families(made, SIZE) == [x0, x0 | models | visits, x0 | models | visits | measured]


@pytest.mark.parametrize("family", list(TINY))
def test_buckets_share_the_squares_rows(places: dict[str, Path], family: str) -> None:
    alone, among = config(places[family]), config(places[family], buckets=[TALL, SIZE])
    assert families(alone, SIZE) == families(among, SIZE)
    assert list(latent_stores(Storage(among.store), among)) == [SIZE, TALL]
    assert families(among, TALL)[0]["shape"] == [4, 10, 6]
    assert not any(family in families(among, SIZE) for family in families(among, TALL))


@pytest.mark.parametrize("family", list(TINY))
def test_the_dtype_separates_all(places: dict[str, Path], family: str) -> None:
    wide, narrow = (families(config(places[family], latent_dtype=dtype), SIZE) for dtype in ("float32", "float16"))
    assert [found | {"dtype": "float16"} for found in wide] == narrow


def test_what_sdxl_is_told_of_sizes_separates_what_it_computes(places: dict[str, Path]) -> None:
    for name, told in (("sd15", None), ("sdxl", "image")):
        image, target = (families(config(places[name], size_conditioning=how), SIZE) for how in ("image", "target"))
        assert image[0] == target[0]
        assert [found.get("sizes") for found in image[1:]] == [told, told]
        assert not any("sizes" in found for found in target)
