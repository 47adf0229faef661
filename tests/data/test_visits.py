from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.base import Size
from prefopt.config.score import SizeConditioning, VisitConfig
from prefopt.data.schema import VISITS
from prefopt.data.storage import Storage
from prefopt.data.store import LatentStore
from prefopt.data.visits import (
    Example,
    bucket_batches,
    bucket_rows,
    latent_key,
    read_visits,
    timestep_at,
    visit_noise,
)
from prefopt.errors import InputError
from tests.kit.plans import planned

SHAPE = (2, 3, 3)
FAMILY = {"shape": list(SHAPE), "dtype": "float32"}


def examples(pairs: int, votes: int = 1) -> list[Example]:
    return [
        Example(f"pair {n}", f"vote {n}/{k}", k, votes, float(k % 2), f"image {2 * n}", f"image {2 * n + 1}")
        for n in range(pairs)
        for k in range(votes)
    ]


def plan(some: list[Example], count: int, **config: object) -> pa.Table:
    return planned(some, count, VisitConfig.model_validate(config)).visits


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


def filled(place: Path, visits: pa.Table) -> tuple[LatentStore, dict[str, np.ndarray]]:
    """A store with a known latent for each key of a plan."""
    keys = sorted({key for side in (0, 1) for key in visits[f"latent_key_{side}"].to_pylist()})
    latents = {key: np.full(SHAPE, n, dtype=np.float32) for n, key in enumerate(keys)}
    store = LatentStore(Storage(str(place)), "x0", FAMILY)
    store.append(pa.table({"key": keys, "x0": [store.pack(latents[key], key) for key in keys]}))
    store.refresh()
    return store, latents


def test_read_visits_gives_what_the_store_holds(tmp_path: Path) -> None:
    visits = plan(examples(6), 12, flip=0.5)
    store, latents = filled(tmp_path, visits)
    batch = read_visits(visits.slice(3, 5), store, None, "image")
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
    inverted = LatentStore(Storage(str(tmp_path)), "inverted", FAMILY)
    columns = {f"xt_{s}": [inverted.pack(x, "x_t") for x in arrays] for s, arrays in sides.items()}
    inverted.append(pa.table({"key": keys, **columns}))
    inverted.refresh()
    batch = read_visits(visits, store, inverted, "image")
    assert batch.xt_0 is not None
    assert batch.xt_1 is not None
    assert np.array_equal(batch.xt_0, np.stack(sides[0]))
    assert np.array_equal(batch.xt_1, np.stack(sides[1]))


def test_a_visit_without_its_latent_is_refused(tmp_path: Path) -> None:
    visits = plan(examples(2), 2)
    store, _ = filled(tmp_path, visits)
    other = plan([replace(e, image_0="unknown") for e in examples(2)], 2)
    with pytest.raises(InputError, match="run the score stage"):
        read_visits(other, store, None, "image")


def test_noise_belongs_to_the_visit() -> None:
    assert np.array_equal(visit_noise("v", SHAPE), visit_noise("v", SHAPE))
    assert not np.array_equal(visit_noise("v", SHAPE), visit_noise("w", SHAPE))
    assert latent_key("i", False) != latent_key("i", True)


def test_a_pairs_examples_share_nothing_random() -> None:
    times = defaultdict(set)
    for row in plan(examples(1, 3), 30).to_pylist():
        times[row["pair_id"]].add(row["t_0"])
    assert len(times["pair 0"]) > 20


TALL, SQUARE, WIDE = Size(40, 24), Size(32, 32), Size(24, 40)
BUCKETS = (TALL, SQUARE, WIDE)


def shaped(kinds: Sequence[int]) -> tuple[list[Example], dict[str, Size]]:
    """A pair for each kind: 0 tall, 1 square, 2 wide."""
    some = examples(len(kinds))
    sizes = {image: BUCKETS[kind] for e, kind in zip(some, kinds, strict=True) for image in (e.image_0, e.image_1)}
    return some, sizes


KINDS = st.lists(st.integers(0, 2), min_size=1, max_size=9)


@given(KINDS, st.integers(1, 4), st.integers(1, 8), st.integers(0, 6))
def test_with_buckets_a_longer_plan_extends_a_shorter_one(
    kinds: list[int], micro: int, batches: int, more: int
) -> None:
    some, sizes = shaped(kinds)

    def made(count: int, examples: list[Example]) -> pa.Table:
        return planned(examples, count, VisitConfig(), buckets=BUCKETS, originals=sizes, micro_batch=micro).visits

    long = made((batches + more) * micro, some)
    assert made(batches * micro, some[::-1]).equals(long.slice(0, batches * micro))


@given(KINDS, st.integers(1, 4), st.integers(1, 12))
def test_every_micro_batch_is_of_one_bucket_and_no_visit_is_lost(kinds: list[int], micro: int, batches: int) -> None:
    """What is drawn is planned once or waits, and in each bucket the drawn order stays."""
    some, sizes = shaped(kinds)
    visits, waiting = planned(some, batches * micro, VisitConfig(), buckets=BUCKETS, originals=sizes, micro_batch=micro)
    rows = visits.to_pylist()
    assert visits["position"].to_pylist() == list(range(batches * micro))
    for start in range(0, len(rows), micro):
        assert len({tuple(row["target"]) for row in rows[start : start + micro]}) == 1
    drawn = plan(some, len(rows) + waiting).to_pylist()
    assert {row["visit_id"] for row in rows} <= {row["visit_id"] for row in drawn}
    assert len({row["visit_id"] for row in rows}) == len(rows)
    of_pair = {example.pair_id: BUCKETS[kind] for example, kind in zip(some, kinds, strict=True)}
    for bucket in BUCKETS:
        here = [row["visit_id"] for row in rows if tuple(row["target"]) == bucket]
        assert here == [row["visit_id"] for row in drawn if of_pair[row["pair_id"]] == bucket][: len(here)]
    assert waiting <= len(BUCKETS) * (micro - 1)


def test_what_waits_at_an_epochs_end_goes_on_into_the_next() -> None:
    """Three tall pairs and three square ones in micro-batches of two: two of an epoch's six visits wait."""
    some, sizes = shaped([0, 0, 0, 1, 1, 1])
    visits, waiting = planned(some, 12, VisitConfig(), buckets=BUCKETS, originals=sizes, micro_batch=2)
    assert Counter(visits["pair_id"].to_pylist()) == dict.fromkeys((e.pair_id for e in some), 2)
    assert waiting == 0
    draws = [set(visits.slice(start, 2)["draw"].to_pylist()) for start in range(0, 12, 2)]
    assert draws.count({0, 1}) == 2


def test_the_micro_batchs_size_moves_no_visit_within_its_bucket() -> None:
    some, sizes = shaped([0, 1, 0, 1, 2, 0, 1])
    orders = []
    for micro in (1, 2, 5):
        rows = planned(some, 60, VisitConfig(), buckets=BUCKETS, originals=sizes, micro_batch=micro).visits.to_pylist()
        orders.append([row["visit_id"] for row in rows if tuple(row["target"]) == SQUARE][:15])
    assert orders[0] == orders[1] == orders[2]


def test_with_one_bucket_the_micro_batchs_size_changes_nothing() -> None:
    plans = [planned(examples(7), 24, VisitConfig(), micro_batch=micro) for micro in (1, 3, 8)]
    assert all(made.visits.equals(plans[0].visits) and made.waiting == 0 for made in plans)


def test_sizes_of_a_visit_by_hand() -> None:
    """100 x 30 covers 40 x 24 at 80 x 24: 20 rows above are cut away. 60 x 45 does at 40 x 30, with 3 columns left of
    the cut; mirrored too. And 41 x 24 has its odd row below."""
    (example,) = examples(1)
    for second, crop in ((Size(60, 45), [0, 3]), (Size(41, 24), [0, 0])):
        originals = {example.image_0: Size(100, 30), example.image_1: second}
        made = planned([example], 1, VisitConfig(flip=1.0), buckets=(TALL, WIDE), originals=originals)
        (row,) = made.visits.to_pylist()
        assert (row["target"], row["original_0"], row["original_1"]) == ([40, 24], [100, 30], list(second))
        assert (row["crop_0"], row["crop_1"]) == ([20, 0], crop)


@pytest.mark.parametrize(("flip", "left"), [(0.0, 2), (1.0, 3)])
def test_a_mirrored_image_has_its_crop_mirrored(flip: float, left: int) -> None:
    """32 x 37 is cut to 32 x 32: of the five columns too many two go on the left, or three of the mirrored image."""
    (example,) = examples(1)
    originals = {example.image_0: Size(32, 37), example.image_1: Size(37, 32)}
    (row,) = planned([example], 1, VisitConfig(flip=flip), originals=originals).visits.to_pylist()
    assert (row["crop_0"], row["crop_1"]) == ([0, left], [2, 0])


@pytest.mark.parametrize(
    ("told", "expected"), [("image", [100, 30, 20, 0, 40, 24]), ("target", [40, 24, 0, 0, 40, 24])]
)
def test_what_is_read_are_sdxls_time_ids(tmp_path: Path, told: SizeConditioning, expected: list[int]) -> None:
    (example,) = examples(1)
    originals = {example.image_0: Size(100, 30), example.image_1: Size(40, 24)}
    visits = planned([example], 2, VisitConfig(), buckets=(TALL,), originals=originals).visits
    store, _ = filled(tmp_path, visits)
    batch = read_visits(visits, store, None, told)
    assert batch.time_ids.tolist() == [expected] * 2 + [[40, 24, 0, 0, 40, 24]] * 2


def test_batches_of_one_bucket() -> None:
    some, sizes = shaped([0, 1, 1, 0, 1])
    visits = planned(some, 5, VisitConfig(), buckets=BUCKETS, originals=sizes).visits
    rows = bucket_rows(visits)
    assert list(rows) == [SQUARE, TALL]
    targets = [tuple(target) for target in visits["target"].to_pylist()]
    assert rows[SQUARE] == [row for row, target in enumerate(targets) if target == SQUARE]
    assert bucket_batches(visits, 2) == [rows[SQUARE][:2], rows[SQUARE][2:], rows[TALL]]


def test_timesteps_come_from_the_part_of_the_schedule_that_is_asked_for() -> None:
    places = [place / 64 for place in range(64)]
    assert [timestep_at(place, (0.0, 1.0), 1000) for place in places] == [int(place * 1000) for place in places]
    inside = [timestep_at(place, (0.5, 0.75), 1000) for place in places]
    assert (min(inside), max(inside)) == (500, 746)
    assert timestep_at(0.999999, (0.9, 1.0), 10) == 9
