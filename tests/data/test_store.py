from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefopt.data.storage import Storage
from prefopt.data.store import LatentStore, RowStore, pack_array, unpack_arrays
from prefopt.errors import InputError

FAMILY = {"model": "m", "size": 32}


def rows(keys: list[str]) -> pa.Table:
    """A key's value is a function of the key alone."""
    return pa.table({"key": keys, "value": [float(len(key)) for key in keys], "text": [key[::-1] for key in keys]})


def opened(place: Path, **family: object) -> RowStore:
    store = RowStore(Storage(str(place)), "rewards", {**FAMILY, **family})
    store.refresh()
    return store


def test_rows_come_back_in_the_asked_order_with_repeats(tmp_path: Path) -> None:
    opened(tmp_path).append(rows(["a", "bb", "ccc"]))
    opened(tmp_path).append(rows(["dddd"]))
    store = opened(tmp_path)
    keys = ["dddd", "a", "ccc", "a", "a"]
    found = store.get(keys, ["value", "text"])
    assert found.column_names == ["value", "text"]
    assert found["value"].to_pylist() == [4.0, 1.0, 3.0, 1.0, 1.0]
    assert found["text"].to_pylist() == [key[::-1] for key in keys]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.data())
def test_any_parts_any_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.mktemp("store")
    keys = [f"key {n:03d}" for n in range(150)]
    for part in data.draw(st.lists(st.permutations(keys).map(lambda k: k[:70]), min_size=1, max_size=3)):
        opened(place).append(rows(list(part)))
    store = opened(place)
    there = sorted(set(keys) - set(store.missing(keys)))
    wanted = data.draw(st.lists(st.sampled_from(there), max_size=40))
    assert store.get(wanted, ["text"])["text"].to_pylist() == [key[::-1] for key in wanted]


def test_missing_keys_each_once_in_order(tmp_path: Path) -> None:
    opened(tmp_path).append(rows(["a"]))
    assert opened(tmp_path).missing(["z", "a", "y", "z"]) == ["z", "y"]


def test_a_store_learns_of_new_parts_when_asked(tmp_path: Path) -> None:
    reader = opened(tmp_path)
    opened(tmp_path).append(rows(["a"]))
    assert reader.missing(["a"]) == ["a"]
    reader.refresh()
    assert reader.missing(["a"]) == []


def test_a_missing_row_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks 1 of 1 rows, first nothing: run the score stage"):
        opened(tmp_path).get(["nothing"], ["value"])


def test_families_do_not_meet(tmp_path: Path) -> None:
    opened(tmp_path).append(rows(["a"]))
    assert opened(tmp_path, size=64).missing(["a"]) == ["a"]
    assert opened(tmp_path).family == RowStore(Storage(str(tmp_path)), "x", dict(reversed(FAMILY.items()))).family


def test_the_same_rows_make_the_same_file(tmp_path: Path) -> None:
    for place in ("one", "two"):
        opened(tmp_path / place).append(rows(["a", "b"]))
        opened(tmp_path / place).append(rows(["a", "b"]))
    one, two = (Storage(str(tmp_path / place)) for place in ("one", "two"))
    assert one.files() == two.files()
    assert len(one.files()) == 2
    assert all(one.read_bytes(name) == two.read_bytes(name) for name in one.files())


def test_only_the_row_groups_that_hold_wanted_rows_are_read(tmp_path: Path) -> None:
    keys = [f"{n:04d}" for n in range(300)]
    opened(tmp_path).append(rows(keys))
    wanted = ["0299", "0000", "0064", "0063"]
    assert opened(tmp_path).get(wanted, ["text"])["text"].to_pylist() == [key[::-1] for key in wanted]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=6, max_size=6))
def test_arrays_come_back(values: list[float]) -> None:
    array = np.asarray(values, dtype=np.float32).reshape(1, 2, 3)
    column = pa.chunked_array([pa.array([pack_array(array), pack_array(array[:, ::-1])], pa.binary())])
    back = unpack_arrays(column, (1, 2, 3), "float32")
    assert np.array_equal(back, np.stack([array, array[:, ::-1]]))
    assert back.flags.writeable


def test_no_arrays_have_a_shape(tmp_path: Path) -> None:
    assert unpack_arrays(pa.chunked_array([], pa.binary()), (4, 8), "float32").shape == (0, 4, 8)


def latents(place: Path, dtype: str) -> LatentStore:
    return LatentStore(Storage(str(place)), "x0", {"shape": [2, 3, 4], "dtype": dtype})


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_latents_are_rounded_to_the_stores_dtype_and_read_as_float32(tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(0).standard_normal((2, 2, 3, 4), dtype=np.float32) * 100
    store = latents(tmp_path, dtype)
    cells = [store.pack(value, "image") for value in values]
    assert [len(cell) for cell in cells] == [2 * 3 * 4 * np.dtype(dtype).itemsize] * 2
    store.append(pa.table({"key": ["a", "b"], "x0": cells}))
    store.refresh()
    found = store.latents(["b", "a", "b"], "x0")
    assert found.dtype == np.float32
    assert np.array_equal(found, values.astype(dtype).astype(np.float32)[[1, 0, 1]])
    assert np.array_equal(found, values[[1, 0, 1]]) == (dtype == "float32")
    assert np.allclose(found, values[[1, 0, 1]], rtol=2**-11)


@pytest.mark.parametrize(("value", "fits"), [(65504.0, True), (-65504.0, True), (65505.0, False), (-1e9, False)])
def test_what_float16_cannot_hold_is_refused_with_the_images_name(tmp_path: Path, value: float, fits: bool) -> None:
    latent = np.zeros((2, 3, 4), np.float32)
    latent[1, 2, 3] = value
    assert latents(tmp_path, "float32").pack(latent, "image abc")
    if fits:
        assert latents(tmp_path, "float16").pack(latent, "image abc")
        return
    with pytest.raises(InputError, match=r"latent of image abc reaches .*float16 cannot hold.*latent_dtype: float32"):
        latents(tmp_path, "float16").pack(latent, "image abc")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_latent_that_is_not_finite_is_refused_with_the_images_name(tmp_path: Path, dtype: str, value: float) -> None:
    latent = np.full((2, 3, 4), value, np.float32)
    with pytest.raises(InputError, match="latent of image abc is not finite"):
        latents(tmp_path, dtype).pack(latent, "image abc")
