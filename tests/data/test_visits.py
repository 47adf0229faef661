from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.score import VisitConfig
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.store import RowStore, pack_array
from prefopt.data.visits import Example, latent_key, plan_visits, read_visits, visit_noise
from prefopt.errors import InputError

SHAPE = (2, 3, 3)


def examples(pairs: int, votes: int = 1) -> list[Example]:
    return [
        Example(f"pair {n}", f"vote {n}/{k}", k, votes, float(k % 2), f"image {2 * n}", f"image {2 * n + 1}")
        for n in range(pairs)
        for k in range(votes)
    ]


def plan(some: list[Example], count: int, **config: object) -> pa.Table:
    return plan_visits(some, count, VisitConfig.model_validate(config), 1000)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 30), st.integers(0, 20), st.randoms())
def test_a_longer_plan_extends_a_shorter_one_whatever_the_input_order(
    pairs: int, votes: int, count: int, more: int, random: object
) -> None:
    some = examples(pairs, votes)
    shuffled = sorted(some, key=lambda _: random.random())  # type: ignore[attr-defined]
    long = plan(some, count + more)
    assert plan(shuffled, count).equals(long.slice(0, count))
    assert long.schema == VISITS
    assert long["position"].to_pylist() == list(range(count + more))


@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 4))
def test_an_epoch_visits_every_example_once(pairs: int, votes: int, epochs: int) -> None:
    size = pairs * votes
    rows = plan(examples(pairs, votes), size * epochs)["vote_id"].to_pylist()
    for epoch in range(epochs):
        assert len(set(rows[epoch * size : (epoch + 1) * size])) == size


def test_epochs_have_orders_of_their_own() -> None:
    rows = plan(examples(20), 40)["pair_id"].to_pylist()
    assert rows[:20] != rows[20:]


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 30))
def test_draws_count_a_pairs_visits(pairs: int, votes: int, count: int) -> None:
    rows = plan(examples(pairs, votes), count).to_pylist()
    draws = Counter((row["pair_id"], row["draw"]) for row in rows)
    assert set(draws.values()) == {1}
    assert len({row["visit_id"] for row in rows}) == len(rows)


def test_what_is_random_belongs_to_the_visit_and_not_to_the_other_examples() -> None:
    def drawn(some: list[Example]) -> dict[str, tuple[object, ...]]:
        names = ("t_0", "flip_0", "flip_1", "drop_prompt")
        rows = plan(some, 60, flip=0.5, drop_prompt=0.5).to_pylist()
        return {row["visit_id"]: tuple(row[name] for name in names) for row in rows}

    few, many = drawn(examples(10)), drawn(examples(12))
    shared = few.keys() & many.keys()
    assert len(shared) > 30
    assert all(few[visit] == many[visit] for visit in shared)


def test_shares_and_timesteps_are_as_configured() -> None:
    rows = plan(examples(100), 3000, flip=0.5, drop_prompt=0.1).to_pylist()
    times = np.array([row["t_0"] for row in rows])
    assert [row["t_1"] for row in rows] == list(times)
    assert times.min() >= 0
    assert times.max() <= 999
    assert abs(times.mean() - 499.5) < 25
    assert abs(np.mean([row["flip_0"] for row in rows]) - 0.5) < 0.05
    assert abs(np.mean([row["flip_0"] == row["flip_1"] for row in rows]) - 0.5) < 0.05
    assert abs(np.mean([row["drop_prompt"] for row in rows]) - 0.1) < 0.03
    assert not any(row["flip_0"] for row in plan(examples(50), 50).to_pylist())


def test_seeds_give_other_plans() -> None:
    first, second = plan(examples(9), 9), plan(examples(9), 9, seed=1)
    assert first["pair_id"].to_pylist() != second["pair_id"].to_pylist()
    assert not set(first["visit_id"].to_pylist()) & set(second["visit_id"].to_pylist())


def test_inverted_keys_follow_what_is_inverted() -> None:
    assert set(plan(examples(5), 5)["inverted_key"].to_pylist()) == {""}
    keys = plan(examples(5), 20, inversion="renoise")["inverted_key"].to_pylist()
    assert len(set(keys)) == 20
    flipped = plan(examples(5), 20, inversion="renoise", flip=1.0)["inverted_key"].to_pylist()
    assert not set(keys) & set(flipped)


def test_no_examples_no_plan() -> None:
    with pytest.raises(ValueError, match="no examples"):
        plan([], 3)


def filled(place: Path, visits: pa.Table) -> tuple[RowStore, dict[str, np.ndarray]]:
    """A store with a known latent for each key of a plan."""
    keys = sorted({key for side in (0, 1) for key in visits[f"latent_key_{side}"].to_pylist()})
    latents = {key: np.full(SHAPE, n, dtype=np.float32) for n, key in enumerate(keys)}
    store = RowStore(Storage(str(place)), "x0", {})
    store.append(pa.table({"key": keys, "x0": pa.array([pack_array(latents[key]) for key in keys], pa.binary())}))
    store.refresh()
    return store, latents


def test_read_visits_gives_what_the_store_holds(tmp_path: Path) -> None:
    visits = plan(examples(6), 12, flip=0.5)
    store, latents = filled(tmp_path, visits)
    batch = read_visits(visits.slice(3, 5), store, None, SHAPE)
    rows = visits.slice(3, 5).to_pylist()
    assert batch.visit_ids == [row["visit_id"] for row in rows]
    assert batch.xt_0 is None
    for n, row in enumerate(rows):
        assert np.array_equal(batch.x0_0[n], latents[row["latent_key_0"]])
        assert np.array_equal(batch.x0_1[n], latents[row["latent_key_1"]])
        assert batch.label[n] == row["label"]
        assert (batch.t_0[n], batch.t_1[n]) == (row["t_0"], row["t_1"])
        assert np.array_equal(batch.noise()[n], visit_noise(row["visit_id"], SHAPE))


def test_read_visits_reads_inverted_latents(tmp_path: Path) -> None:
    visits = plan(examples(3), 6, inversion="renoise")
    store, _ = filled(tmp_path, visits)
    keys = visits["inverted_key"].to_pylist()
    sides = {s: [np.full(SHAPE, 10 * s + n, np.float32) for n in range(6)] for s in (0, 1)}
    inverted = RowStore(Storage(str(tmp_path)), "inverted", {})
    columns = {f"xt_{s}": pa.array([pack_array(x) for x in arrays], pa.binary()) for s, arrays in sides.items()}
    inverted.append(pa.table({"key": keys, **columns}))
    inverted.refresh()
    batch = read_visits(visits, store, inverted, SHAPE)
    assert batch.xt_0 is not None
    assert batch.xt_1 is not None
    assert np.array_equal(batch.xt_0, np.stack(sides[0]))
    assert np.array_equal(batch.xt_1, np.stack(sides[1]))


def test_a_visit_without_its_latent_is_refused(tmp_path: Path) -> None:
    visits = plan(examples(2), 2)
    store, _ = filled(tmp_path, visits)
    other = plan([replace(e, image_0="unknown") for e in examples(2)], 2)
    with pytest.raises(InputError, match="run the score stage"):
        read_visits(other, store, None, SHAPE)


def test_noise_belongs_to_the_visit() -> None:
    assert np.array_equal(visit_noise("v", SHAPE), visit_noise("v", SHAPE))
    assert not np.array_equal(visit_noise("v", SHAPE), visit_noise("w", SHAPE))
    assert latent_key("i", False) != latent_key("i", True)


def test_a_pairs_examples_share_nothing_random() -> None:
    times = defaultdict(set)
    for row in plan(examples(1, 3), 30).to_pylist():
        times[row["pair_id"]].add(row["t_0"])
    assert len(times["pair 0"]) > 20
