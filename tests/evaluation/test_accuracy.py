import numpy as np
import pyarrow as pa
import pytest
import torch

from prefopt.config.base import Size
from prefopt.config.root import ModelConfig
from prefopt.data.framing import Framing
from prefopt.data.ids import row_normal
from prefopt.data.storage import Storage
from prefopt.data.store import LatentStore
from prefopt.data.visits import latent_key
from prefopt.errors import InputError
from prefopt.evaluation.accuracy import HeldoutGaps, HeldoutPair, accuracy_points, heldout_pairs
from prefopt.evaluation.generation import with_weights
from prefopt.models.families import encode_prompts
from prefopt.models.loading import load_pipeline
from prefopt.models.sources import base_weights, find_weights
from tests.kit.models import LATENT_SHAPE, SIZE, TINY

UNCUT = (32, 32, 0, 0, 32, 32)
TALL = Size(40, 24)
PAIRS = [
    HeldoutPair(f"p{i}", f"a {c} circle", f"w{i}", f"l{i}", (64, 48, 5, 0, 32, 32), UNCUT)
    for i, c in enumerate(("red", "blue", "green"))
]


def vote(pair, label, latest=True):
    return {"pair_id": pair, "label": label, "latest": latest}


def pair(name):
    return {"pair_id": name, "prompt": "a", "image_0": f"{name}0", "image_1": f"{name}1"}


def test_labels_are_the_majority_of_the_votes_that_count():
    votes = [
        *[vote("a", label) for label in (1.0, 1.0, 0.0)],
        *[vote("b", 0.0), vote("b", 1.0, latest=False)],
        *[vote("tie", 1.0), vote("tie", 0.0)],
        vote("elsewhere", 1.0),
    ]
    pairs = [pair("a"), pair("b"), pair("tie")]
    framing = Framing((TALL, SIZE), {"a0": Size(32, 32), "a1": Size(32, 37), "b0": Size(50, 30), "b1": Size(80, 40)})
    found = {p.pair_id: p for p in heldout_pairs(pairs, votes, framing, "image", most=9, seed=0)}
    assert set(found) == {"a", "b"}
    assert (found["a"].winner, found["a"].loser) == ("a0", "a1")
    assert (found["b"].winner, found["b"].loser) == ("b1", "b0")
    assert (found["a"].winner_sizes, found["a"].loser_sizes) == (UNCUT, (32, 37, 0, 2, 32, 32))
    assert (found["b"].winner_sizes, found["b"].loser_sizes) == ((80, 40, 4, 0, 40, 24), (50, 30, 0, 0, 40, 24))
    assert (found["a"].bucket, found["b"].bucket) == (SIZE, TALL)
    (told, _) = heldout_pairs(pairs, votes, framing, "target", most=9, seed=0)
    assert told.winner_sizes == told.loser_sizes == (*told.bucket, 0, 0, *told.bucket)


def test_fewer_pairs_are_the_first_of_more():
    pairs = [pair(f"p{i}") for i in range(20)]
    votes = [vote(p["pair_id"], 1.0) for p in pairs]
    framing = Framing((SIZE,), dict.fromkeys((p[f"image_{side}"] for p in pairs for side in (0, 1)), SIZE))
    many = heldout_pairs(pairs, votes, framing, "image", most=20, seed=0)
    assert heldout_pairs(pairs[::-1], votes, framing, "image", most=5, seed=0) == many[:5]
    assert heldout_pairs(pairs, votes, framing, "image", most=5, seed=1) != many[:5]


def test_points():
    assert accuracy_points(np.array([0.2, 0.0, -0.1])).tolist() == [1.0, 0.5, 0.0]


@pytest.fixture(scope="module", params=[("sd15", "epsilon"), ("sd15", "v_prediction"), ("sdxl", "epsilon")], ids=str)
def models(request, tmp_path_factory):
    family, predicted = request.param
    place = tmp_path_factory.mktemp(family)
    model = ModelConfig(path=str(TINY[family](place / "base", prediction_type=predicted)))
    base = load_pipeline(model)
    onto = base_weights(model)
    tuned = find_weights(str(TINY[family](place / "tuned", seed=2, prediction_type=predicted)), "kit", [onto])
    return base, with_weights(base, model, tuned, onto)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return filled(Storage(str(tmp_path_factory.mktemp("store"))), PAIRS, LATENT_SHAPE)


def filled(storage, pairs, shape):
    store = LatentStore(storage, "x0", {"shape": shape, "dtype": "float32"})
    keys = [latent_key(image, False) for p in pairs for image in (p.winner, p.loser)]
    store.append(pa.table({"key": keys, "x0": [store.pack(row_normal(shape, 0, "x0", key), key) for key in keys]}))
    store.refresh()
    return store


def gaps(models, latents, batch=4):
    return HeldoutGaps(*models, {SIZE: latents}, batch=batch, seed=0)


def test_a_gap_by_hand(models, latents):
    base, tuned = models
    (row, *_) = gaps(models, latents, batch=1).measure(PAIRS[:1], draws=1)
    noise = torch.from_numpy(row_normal(LATENT_SHAPE, 0, "accuracy noise", "p0", 0))[None]
    level = torch.cumprod(1.0 - base.scheduler.betas.double(), 0)[row["t"]]

    def error(pipeline, image, sizes):
        told = encode_prompts(base, [PAIRS[0].prompt]).sized(np.array([sizes]))
        x0 = torch.from_numpy(row_normal(LATENT_SHAPE, 0, "x0", latent_key(image, False)))[None]
        noised = (level.sqrt() * x0 + (1.0 - level).sqrt() * noise).float()
        with torch.no_grad():
            predicted = pipeline.unet(
                noised, torch.tensor([row["t"]]), encoder_hidden_states=told.states, added_cond_kwargs=told.added
            ).sample
        velocity = level.sqrt() * noise - (1.0 - level).sqrt() * x0
        target = noise if base.scheduler.config.prediction_type == "epsilon" else velocity
        return float(((predicted - target) ** 2).mean())

    sizes = (("w0", PAIRS[0].winner_sizes), ("l0", PAIRS[0].loser_sizes))
    reference, policy = (np.subtract(*(error(model, *side) for side in sizes)) for model in (base, tuned))
    assert row["z"] == pytest.approx(reference - policy, abs=1e-5)
    assert row["z"] != 0.0


def test_the_base_against_itself_is_exactly_half(models, latents):
    base, _ = models
    rows = gaps((base, base), latents).measure(PAIRS, draws=2)
    assert [row["z"] for row in rows] == [0.0] * 6
    assert accuracy_points(np.array([row["z"] for row in rows])).mean() == 0.5


def test_swapping_winner_and_loser_negates_the_gap(models, latents):
    swapped = [HeldoutPair(p.pair_id, p.prompt, p.loser, p.winner, p.loser_sizes, p.winner_sizes) for p in PAIRS]
    there, back = (gaps(models, latents).measure(pairs, draws=2) for pairs in (PAIRS, swapped))
    assert [row["z"] for row in back] == pytest.approx([-row["z"] for row in there])


def test_rows_depend_neither_on_other_pairs_nor_on_their_order(models, latents):
    measure = gaps(models, latents).measure
    together = measure(PAIRS, draws=3)
    assert [(row["pair_id"], row["draw"]) for row in together] == [(p.pair_id, d) for p in PAIRS for d in range(3)]
    assert measure(PAIRS[2:], draws=3) == together[6:]
    assert measure(PAIRS[::-1], draws=3) == [*together[6:], *together[3:6], *together[:3]]
    assert len({row["t"] for row in together}) > 5


def test_a_missing_latent_is_reported(models, latents):
    with pytest.raises(InputError, match="lacks"):
        gaps(models, latents).measure([HeldoutPair("x", "a", "nowhere", "w0", UNCUT, UNCUT)], draws=1)


def test_batches_are_of_one_bucket_and_rows_stay_in_order(models, latents, tmp_path):
    tall = [HeldoutPair(f"t{i}", "a red cross", f"tw{i}", f"tl{i}", *[(*TALL, 0, 0, *TALL)] * 2) for i in range(2)]
    stores = {SIZE: latents, TALL: filled(Storage(str(tmp_path)), tall, (4, 10, 6))}
    measure = HeldoutGaps(*models, stores, batch=4, seed=0).measure
    mixed = [PAIRS[0], tall[0], PAIRS[1], tall[1]]
    rows = measure(mixed, draws=3)
    assert [(row["pair_id"], row["draw"]) for row in rows] == [(p.pair_id, d) for p in mixed for d in range(3)]
    assert rows[:3] + rows[6:9] == gaps(models, latents).measure(PAIRS[:2], draws=3)
    assert rows[3:6] + rows[9:] == measure(tall, draws=3)
