import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from prefopt.config.evaluate import NegativeConfig
from prefopt.config.ingest import Limits
from prefopt.config.prompts import HeldoutPrompts
from prefopt.data.ids import prompt_id
from prefopt.distributed import evaluate as units
from prefopt.errors import InputError, RewardError
from prefopt.evaluation.generation import open_png, png_bytes
from prefopt.features import embedder_spec
from prefopt.prompts import Heldout, drawn_prompts, read_prompts
from prefopt.rewards import reward_spec
from prefopt.stages.evaluate import _models, run
from tests.kit.evaluation import evaluation_context, other_output, pair_rows


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return evaluation_context(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def result(context):
    return run(context)


def hashes(storage, files):
    return {name: hashlib.sha256(storage.read_bytes(name)).hexdigest() for name in files}


def held_out(rows, most, elsewhere=()):
    """The held-out prompts that are drawn of such pairs."""
    chosen = HeldoutPrompts(kind="heldout", most=most)
    return drawn_prompts([read_prompts(chosen, Limits(), Heldout(rows, elsewhere))])


def test_rows_and_files(context, result):
    assert (result.rows.in_, result.rows.out, result.rows.quarantined) == (12, 12, 0)
    expected = {
        f"{kind}-{model}-0000{unit}.parquet"
        for kind in ("images", "scores", "features")
        for model in ("base", "tuned")
        for unit in (0, 1)
    }
    assert set(result.files) == expected | {
        "prompts-00000.parquet",
        "accuracy-tuned-00000.parquet",
        "metrics.json",
        "report.html",
        "report.md",
    }
    assert len(result.files) == len(set(result.files))
    assert result.summary["prompts"] == 6
    protocol = json.loads(context.output.read_bytes("metrics.json"))["protocol"]
    assert protocol["digest"] == result.summary["protocol"]
    assert protocol["prompt_sets"] == {"heldout": 6}
    assert protocol["rewards"].keys() == {"world/true", "world/style"}
    assert result.summary["seed"] == 0


def test_images_and_scores_belong_to_prompts_of_the_test_split(context, result):
    pairs = context.parents["ingest"].storage.read_table("pairs-00000.parquet").to_pylist()
    prompts = held_out([row for row in pairs if row["split"] == "test"], 6)
    for model in ("base", "tuned"):
        images = [
            row
            for unit in (0, 1)
            for row in context.output.read_table(f"images-{model}-0000{unit}.parquet").to_pylist()
        ]
        assert [row["prompt"] for row in images] == prompts
        assert all(open_png(row["png"]).size == (32, 32) for row in images)
        scores = context.output.read_table(f"scores-{model}-00000.parquet").to_pylist()
        assert [(row["prompt_id"], row["reward"]) for row in scores] == [
            (row["prompt_id"], reward) for reward in ("world/true", "world/style") for row in images[:4]
        ]
        assert {row["version"] for row in scores} == {reward_spec("world/true").version}


def test_metrics_agree_with_the_tables(context, result):
    found = json.loads(context.output.read_bytes("metrics.json"))

    def scores(model):
        rows = [
            row
            for unit in (0, 1)
            for row in context.output.read_table(f"scores-{model}-0000{unit}.parquet").to_pylist()
        ]
        return np.array([row["score"] for row in rows if row["reward"] == "world/true"])

    base, tuned = scores("base"), scores("tuned")
    record = found["models"]["tuned"]["world/true"]
    assert record["win_rate"]["value"] == pytest.approx(np.mean((tuned > base) + 0.5 * (tuned == base)))
    assert record["win_rate"]["n"] == 6
    assert record["mean"] == pytest.approx(tuned.mean())
    z = np.array(context.output.read_table("accuracy-tuned-00000.parquet")["z"].to_pylist())
    assert found["accuracy_heldout"]["value"] == pytest.approx(np.mean((z > 0) + 0.5 * (z == 0)))
    assert found["accuracy_heldout"]["n"] == len(z) == 24
    assert found["minority"]["source"] == "online"
    assert set(found["minority"]["auroc_by_source"]) == {"online", "offline"}


def test_the_report_is_there(context, result):
    html = context.output.read_bytes("report.html").decode()
    assert "Adaptive-DPO" in html
    assert html.count("<img ") == 2 * (2 + 6)  # the grid, and every prompt as a gain or a loss
    assert context.output.uri not in html


def test_another_number_of_workers_gives_the_same_bytes(context, result, tmp_path, ray_session):
    again = other_output(context, tmp_path / "again", engine="ray", workers=2)
    again = replace(again, store=type(again.store)(str(tmp_path / "store")))
    _copy_latents(context, again)
    files = run(again).files
    assert hashes(again.output, files) == hashes(context.output, result.files)


def test_finished_units_are_kept(context, result, monkeypatch):
    before = hashes(context.output, result.files)

    def never(self, payload):
        raise AssertionError("finished units are kept")

    monkeypatch.setattr(units.EvaluateUnits, "__call__", never)
    context.output.delete("report.html")
    assert hashes(context.output, run(context).files) == before


def _copy_latents(context, other):
    for name in context.store.files("x0"):
        other.store.write_bytes(name, context.store.read_bytes(name))


def worker(context, **evaluate):
    config = context.config
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update=evaluate)})
    return units.EvaluateUnits(
        units.EvaluationJob(
            config=config,
            models=tuple(_models(replace(context, config=config))),
            rewards=tuple(reward_spec(name) for name in config.evaluate.rewards),
            features=embedder_spec(config),
            output=context.output,
            store=context.store,
        )
    )


def test_images_are_drawn_once_for_all_evaluations(context, result, tmp_path, monkeypatch):
    other = other_output(context, tmp_path / "other")

    def never(self, model, tasks):
        raise AssertionError(f"the {model} model draws {tasks}")

    monkeypatch.setattr(units.EvaluateUnits, "_drawn", never)
    prompts = context.output.read_table("images-base-00000.parquet")["prompt"].to_pylist()
    payload = {"kind": "images", "model": "base", "number": 0, "prompts": prompts}
    for model in ("base", "tuned"):
        receipt = worker(other)({**payload, "model": model})
        assert hashes(other.output, receipt["files"]) == hashes(context.output, receipt["files"])
    with pytest.raises(AssertionError, match="base model draws"):
        worker(other, seed=5)(payload)


def test_several_samples_per_prompt_have_rows_of_their_own(context, result, tmp_path):
    made = worker(other_output(context, tmp_path / "samples"), samples_per_prompt=2)
    receipt = made({"kind": "images", "model": "tuned", "number": 0, "prompts": ["a red circle", "a blue cross"]})
    assert receipt["images"] == 4
    rows = made._job.output.read_table("images-tuned-00000.parquet").to_pylist()
    assert [(row["prompt"], row["sample"]) for row in rows] == [
        ("a red circle", 0),
        ("a red circle", 1),
        ("a blue cross", 0),
        ("a blue cross", 1),
    ]
    assert len({row["png"] for row in rows}) == 4


def test_a_negative_model_changes_the_tuned_images_alone(context, result, tmp_path):
    """The base as its own negative is plain guidance of the tuned model's conditional branch by the base's."""
    payload = {"kind": "images", "model": "tuned", "number": 0, "prompts": ["a red circle", "a blue cross"]}

    def drawn(name, **evaluate):
        made = worker(other_output(context, tmp_path / name), **evaluate)
        made(payload)
        return [row["png"] for row in made._job.output.read_table("images-tuned-00000.parquet").to_pylist()]

    def negative(**shares):
        return NegativeConfig(weights_from=context.config.model.path, **shares)

    plain, guided = drawn("plain"), drawn("negative", negative=negative())
    assert guided == plain  # base + 1 (tuned - base) + 1 (base - base) is the tuned model
    assert drawn("apart", negative=negative(positive_share=0.0)) != plain


def test_prompts_are_the_first_in_a_fixed_order():
    rows = [{"prompt": f"prompt {number % 30}", "category": ""} for number in range(60)]
    many = held_out(rows, 30)
    assert len(set(many)) == 30
    assert held_out(rows[::-1], 7) == many[:7]
    assert held_out(rows, 30, elsewhere=many[:5]) == many[5:]
    with pytest.raises(InputError, match="used by another split too"):
        held_out(rows, 30, elsewhere=many)


def test_an_empty_test_split_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"test split is empty.*ingest\.split\.test"):
        run(evaluation_context(tmp_path, test=False))


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory):
    """A run on a file, whose prompts are in part those of a benchmark too, and in part the training split's."""
    place = tmp_path_factory.mktemp("sets")
    trained = next(row["prompt"] for row in pair_rows() if row["split"] == "train")
    (place / "mine.csv").write_text(f"prompt,kind\na new cat,new\n{trained.upper()},old\nA new cat,new\n,new\n")
    (place / "parti.tsv").write_text(
        "Prompt\tCategory\tChallenge\tNote\na new cat\tAnimals\tBasic\t\na fire\tAbstract\tBasic\tx\n"
    )
    sets = [
        {"kind": "file", "name": "mine", "path": str(place / "mine.csv"), "category_column": "kind"},
        {"kind": "partiprompts", "path": str(place / "parti.tsv")},
    ]
    context = evaluation_context(
        place, prompt_sets=sets, samples_per_prompt=2, accuracy={"pairs": 0}, unit_prompts=2, test=False
    )
    return context, run(context)


def test_two_sets_end_to_end(two_sets):
    context, result = two_sets
    table = context.output.read_table("prompts-00000.parquet").to_pylist()
    assert [(row["set"], row["category"], row["challenge"]) for row in table] == [
        ("mine", "new", ""),
        ("mine", "old", ""),
        ("partiprompts", "Animals", "Basic"),
        ("partiprompts", "Abstract", "Basic"),
    ]
    assert table[0]["prompt_id"] == table[2]["prompt_id"] == prompt_id("a new cat")
    assert result.rows.in_ == 2 * 3 * 2  # models, different prompts, samples
    assert {name: count for name, count in result.summary.items() if name.startswith("prompts")} == {
        "prompts": 3,
        "prompts mine": 2,
        "prompts mine duplicate_prompt": 1,
        "prompts mine empty_prompt": 1,
        "prompts mine repeated": 0,
        "prompts mine in_training": 1,
        "prompts partiprompts": 2,
        "prompts partiprompts repeated": 0,
        "prompts partiprompts in_training": 0,
    }


def test_figures_of_two_sets_agree_with_the_tables(two_sets):
    context, _ = two_sets
    found = json.loads(context.output.read_bytes("metrics.json"))
    ids = {
        name: [row["prompt_id"] for row in context.output.read_table("prompts-00000.parquet").to_pylist() if fits(row)]
        for name, fits in {
            "mine": lambda row: row["set"] == "mine",
            "partiprompts": lambda row: row["set"] == "partiprompts",
            "old": lambda row: row["category"] == "old",
        }.items()
    }

    def points(chosen):
        by_model = {
            model: {
                (row["prompt_id"], row["sample"]): row["score"]
                for unit in (0, 1)
                for row in context.output.read_table(f"scores-{model}-0000{unit}.parquet").to_pylist()
                if row["reward"] == "world/true" and row["prompt_id"] in chosen
            }
            for model in ("base", "tuned")
        }
        base, tuned = by_model["base"], by_model["tuned"]
        return [float(tuned[key] > base[key]) + 0.5 * (tuned[key] == base[key]) for key in base]

    for name in ("mine", "partiprompts"):
        rate = found["sets"][name]["models"]["tuned"]["world/true"]["win_rate"]
        assert (rate["value"], rate["n"]) == (pytest.approx(np.mean(points(ids[name]))), 4)
    assert found["models"]["tuned"]["world/true"]["win_rate"]["n"] == 6
    slices = {(row["set"], row["label"], row["reward"]): row for row in found["slices"]["rows"]}
    assert len(slices) == 2 * 4
    assert slices["mine", "old", "world/true"]["win_rate"]["value"] == pytest.approx(np.mean(points(ids["old"])))
    assert found["hpsv2"] is None
    assert found["accuracy_heldout"] is None
    html = context.output.read_bytes("report.html").decode()
    assert "also in the training split: 1 of mine" in html
    assert "Prompt sets and slices" in html


class Scorer:
    name, version = "kit", "1"

    def __init__(self, scores):
        self.scores, self.seen = scores, 0

    def score(self, images, prompts):
        self.seen = len(images)
        return np.resize(np.asarray(self.scores, dtype=np.float32), len(images))


def test_scores_are_padded_to_one_size_and_checked():
    image = open_png(_png())
    good = Scorer([1.0, 2.0])
    assert units.padded_scores(good, [image] * 2, ["a", "b"], 4) == [1.0, 2.0]
    assert good.seen == 4
    with pytest.raises(RewardError, match=r"nan for generated image 2 under the prompt 'b'"):
        units.padded_scores(Scorer([1.0, float("nan")]), [image] * 2, ["a", "b"], 4)
    broken = Scorer([1.0])
    broken.score = lambda images, prompts: np.zeros((2, 1), dtype=np.float32)
    with pytest.raises(RewardError, match="must give float32"):
        units.padded_scores(broken, [image], ["a"], 2)


def _png():
    return png_bytes(Image.new("RGB", (32, 32), "red"))
