"""Figures by prompt set, slice and style, on scores made by hand."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefopt.config.evaluate import EvaluateConfig
from prefopt.evaluation.breakdown import Breakdown, breakdown_metrics, make_breakdown, shown_breakdown
from prefopt.evaluation.hpsv2 import style_scores, style_value
from prefopt.evaluation.ranking import rank_models, ranking_record
from prefopt.evaluation.results import Results, Scores, compare
from prefopt.evaluation.sets import DrawnSet, drawn_sets
from prefopt.evaluation.significance import holm, sign_test
from prefopt.evaluation.slices import make_slices
from prefopt.evaluation.wording import headline, origins, set_note
from prefopt.prompts import STYLES, Prompt, PromptList, drawn_prompts

CONFIG = EvaluateConfig.model_validate({"rewards": ["r"], "bootstrap": {"resamples": 200}})


def prompt_list(name: str, rows: list[tuple[str, ...]], kind: str = "file", **fields: Any) -> PromptList:
    return PromptList(name, kind, tuple(Prompt(*row) for row in rows), **fields)


def drawn(*lists: PromptList, samples: int = 1) -> tuple[list[DrawnSet], list[str], list[str]]:
    """Sets, the prompts that are drawn, and the name of every image."""
    prompts = drawn_prompts(lists)
    return drawn_sets(lists, prompts, samples), prompts, [prompt for prompt in prompts for _ in range(samples)]


def scores(names: list[str], tuned: dict[str, list[float]], reward: str = "r") -> Scores:
    """Scores against a base that always has 0; `tuned` has those of each sample of each prompt."""
    left = {prompt: list(values) for prompt, values in tuned.items()}
    values = np.array([left[name].pop(0) for name in names])
    return {reward: {"base": np.zeros(len(names)), "tuned": values}}


ANIMALS = prompt_list("animals", [("a", "cat"), ("b", "cat"), ("c", "dog")])
MIXED = prompt_list(
    "mixed", [("c", "pet", "easy"), ("d", "", "hard"), ("c", "pet", "easy")], "partiprompts", repeated=1
)
WINS = {"a": [1.0], "b": [1.0], "c": [-1.0], "d": [0.0]}


def made(config: EvaluateConfig = CONFIG) -> Breakdown:
    sets, _, names = drawn(ANIMALS, MIXED)
    return make_breakdown(config, scores(names, WINS), names, sets, [None, 2])


def test_each_set_has_its_own_comparisons() -> None:
    first, second = made().sets
    assert first.models["tuned"][0].wins.value == pytest.approx(2 / 3)
    assert first.models["tuned"][0].mean == {"base": 0.0, "tuned": pytest.approx(1 / 3)}
    assert (second.models["tuned"][0].wins.value, second.models["tuned"][0].wins.n) == (pytest.approx(0.5 / 3), 3)
    assert second.in_training == 2


def test_images_are_found_by_prompt_and_sample() -> None:
    sets, prompts, names = drawn(ANIMALS, MIXED, samples=2)
    assert len(prompts) == 4
    found = scores(names, {name: [10.0 * number, 10.0 * number + 1] for number, name in enumerate("abcd", start=1)})
    assert sets[0].scores(found)["r"]["tuned"].tolist() == [10.0, 11.0, 20.0, 21.0, 30.0, 31.0]
    assert sets[1].names(names) == ["c", "c", "d", "d", "c", "c"]


def test_one_set_of_all_prompts_has_the_figures_of_all() -> None:
    sets, _, names = drawn(prompt_list("x", [(name,) for name in "dcba"]))
    found = scores(names, WINS)
    assert make_breakdown(CONFIG, found, names, sets, [None]).sets[0].models["tuned"] == compare(CONFIG, found, names)


def test_slices_by_hand() -> None:
    found = {(one.set, one.by, one.label): one for one in made().slices}
    assert set(found) == {("animals", "category", "cat"), ("animals", "category", "dog")} | {
        ("mixed", "challenge", label) for label in ("easy", "hard")
    }  # the set mixed has one category alone
    cats, easy = found["animals", "category", "cat"], found["mixed", "challenge", "easy"]
    assert (cats.prompts, cats.wins.value, cats.won, cats.lost, cats.p) == (2, 1.0, 2, 0, 0.5)
    assert (easy.prompts, easy.wins.n, easy.won, easy.lost, easy.p) == (2, 2, 0, 1, 1.0)
    assert cats.adjusted == 1.0  # four slices: 4 x 0.5
    tie = found["mixed", "challenge", "hard"]
    assert (tie.wins.value, tie.wins.low, tie.p) == (0.5, None, 1.0)


def test_samples_of_a_prompt_count_once_in_the_test() -> None:
    rows = [(f"p{number}", "even" if number % 2 == 0 else "odd") for number in range(20)]
    sets, _, names = drawn(prompt_list("x", rows), samples=3)
    values = {name: [1.0, 1.0, -1.0] if label == "even" else [0.0, -1.0, 1.0] for name, label in rows}
    even, odd = make_slices(CONFIG, scores(names, values), names, sets, ["tuned"])[0]
    assert (even.won, even.lost, even.wins.n) == (10, 0, 30)
    assert even.wins.value == pytest.approx(2 / 3)
    assert even.p == pytest.approx(2 / 2**10)
    assert even.adjusted == pytest.approx(4 / 2**10)
    assert even.outcome(0.95) == "better"
    assert even.outcome(0.999) == "undecided"
    assert (odd.won, odd.lost, odd.p, odd.outcome(0.95)) == (0, 0, 1.0, "undecided")


labelled = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(-2, 2), st.integers(-2, 2)), min_size=2, max_size=25)


@given(labelled)
def test_swapping_the_models_mirrors_every_slice_and_set(rows: list[tuple[str, int, int]]) -> None:
    listed = prompt_list("x", [(f"p{number}", label) for number, (label, _, _) in enumerate(rows)])
    sets, prompts, names = drawn(listed)
    order = [int(prompt[1:]) for prompt in prompts]
    first, second = (np.array([float(rows[index][side]) for index in order]) for side in (1, 2))
    forth = make_breakdown(CONFIG, {"r": {"base": first, "tuned": second}}, names, sets, [0])
    back = make_breakdown(CONFIG, {"r": {"base": second, "tuned": first}}, names, sets, [0])
    one_way, other_way = forth.sets[0].models["tuned"][0], back.sets[0].models["tuned"][0]
    assert one_way.wins.value == other_way.losses.value == pytest.approx(1.0 - other_way.wins.value)
    for one, other in zip(forth.slices, back.slices, strict=True):
        assert one.wins.value + other.wins.value == pytest.approx(1.0)
        assert (one.won, one.lost, one.label) == (other.lost, other.won, other.label)
        assert one.p == other.p
        assert one.adjusted == other.adjusted
        mirrored = {"better": "worse", "worse": "better", "undecided": "undecided"}
        assert one.outcome(0.95) == mirrored[other.outcome(0.95)]


def test_the_largest_labels_have_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefopt.evaluation.slices.MOST", 2)
    rows = [("a", "x"), ("b", "y"), ("c", "z"), ("d", "z"), ("e", "x")]
    sets, _, names = drawn(prompt_list("x", rows))
    found, left_out = make_slices(CONFIG, scores(names, {name: [0.0] for name in "abcde"}), names, sets, ["tuned"])
    assert [one.label for one in found] == ["x", "z"]
    assert left_out == 1


def test_the_sign_test_by_hand() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(3, 0) == sign_test(0, 3) == 0.25
    assert sign_test(5, 1) == pytest.approx(2 * (1 + 6) / 64)


def test_holms_correction_by_hand() -> None:
    # sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (raised to the one before), 0.5 x 1
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_steps_reject(p: list[float], level: float) -> None:
    adjusted = holm(p)
    assert all(one >= raw for one, raw in zip(adjusted, p, strict=True))
    assert max(adjusted) <= 1.0
    rejected = 0
    for place, raw in enumerate(sorted(p)):
        if raw * (len(p) - place) > level:
            break
        rejected += 1
    assert sum(one <= level for one in adjusted) == rejected


def test_a_style_is_the_mean_of_the_means_of_its_blocks() -> None:
    assert style_value([1.0, 3.0, 8.0], block=2) == pytest.approx((2.0 + 8.0) / 2)
    values = np.arange(800.0)
    assert style_value(values) == pytest.approx(values.mean())  # blocks of one size
    assert style_value(np.r_[np.zeros(80), 1.0]) == 0.5
    with pytest.raises(ValueError, match="no scores"):
        style_value([])


def test_hpsv2_sums_up_styles_in_the_files_order() -> None:
    rows = [(f"{style} {number}", style) for style in STYLES for number in range(81)]
    bench, other = prompt_list("bench", rows, "hpdv2"), prompt_list("other", [("q",)])
    sets, _, names = drawn(bench, other, samples=2)
    place = {prompt: number for number, (prompt, _) in enumerate(rows)}
    worth = {prompt: 1.0 if number % 81 == 80 else 0.0 for prompt, number in place.items()}
    found = scores(names, {**{prompt: [value, 3 * value] for prompt, value in worth.items()}, "q": [9.0, 9.0]})
    base, tuned = style_scores(found, sets)
    assert (base.set, base.model, tuned.model, tuned.reward) == ("bench", "base", "tuned", "r")
    assert list(tuned.styles) == list(STYLES)
    assert tuned.styles == pytest.approx(dict.fromkeys(STYLES, 1.0))  # a block of 80 zeros, and one of the last alone
    assert tuned.average == pytest.approx(2.0 / 81)


def test_metrics_of_sets_slices_and_styles() -> None:
    sets, _, names = drawn(ANIMALS, prompt_list("bench", [("e", "anime"), ("f", "photo")], "hpdv2"))
    values = scores(names, {**WINS, "e": [1.0], "f": [3.0]})
    found = breakdown_metrics(make_breakdown(CONFIG, values, names, sets, [1, 0]), "half")
    json.dumps(found, allow_nan=False)
    animals = found["sets"]["animals"]
    assert {name: animals[name] for name in ("kind", "prompts", "in_training", "repeated", "skipped")} == {
        "kind": "file",
        "prompts": 3,
        "in_training": 1,
        "repeated": 0,
        "skipped": {},
    }
    assert animals["models"]["tuned"]["r"]["win_rate"]["value"] == pytest.approx(2 / 3)
    assert animals["base_scores"]["r"] == {"mean": 0.0, "median": 0.0}
    cat = found["slices"]["rows"][0]
    assert cat.pop("win_rate") == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 2, "tie_rule": "half"}
    assert cat == {
        "set": "animals",
        "by": "category",
        "label": "cat",
        "reward": "r",
        "model": "tuned",
        "prompts": 2,
        "prompts_won": 2,
        "prompts_lost": 0,
        "p": 0.5,
        "p_holm": 1.0,
    }
    assert "Holm" in found["slices"]["test"]
    assert found["hpsv2"]["bench"]["r"]["tuned"] == {"styles": {"anime": 1.0, "photo": 3.0}, "average": 2.0}
    assert breakdown_metrics(Breakdown(), "half") == {"sets": None, "slices": None, "hpsv2": None}


def test_every_reward_is_corrected_by_itself() -> None:
    config = CONFIG.model_copy(update={"rewards": ("r", "s")})
    rows = [(f"p{number}", "x" if number < 6 else "y") for number in range(12)]
    sets, _, names = drawn(prompt_list("x", rows))
    values = {**scores(names, {name: [1.0] for name in names}), **scores(names, {name: [-1.0] for name in names}, "s")}
    found = make_slices(config, values, names, sets, ["tuned"])[0]
    assert [(one.reward, one.label) for one in found] == [("r", "x"), ("r", "y"), ("s", "x"), ("s", "y")]
    assert {one.adjusted for one in found} == {2 * 2 / 2**6}
    assert [one.outcome(0.9) for one in found] == ["better", "better", "worse", "worse"]


def results(found: Breakdown) -> Results:
    return Results("base", "half", found.sets[0].models, None, 0, [])


def test_what_a_report_shows() -> None:
    found = made()
    shown = shown_breakdown(found, results(found), 0.95)
    assert (shown["shown"], shown["tables"], shown["sets"]) == (True, True, True)
    (reward,) = shown["rewards"]
    assert [row["name"] for row in reward["sets"]] == ["animals", "mixed"]
    assert {row["verdict"] for row in reward["slices"]} == {"no difference shown"}
    assert found.origin == "prompt"
    assert headline(results(found), 4, 0.95, found.origin).startswith("On 4 prompts, the tuned")


def test_the_run_s_own_prompts_alone_need_no_section() -> None:
    sets, _, names = drawn(prompt_list("heldout", [("a",), ("b",)], "heldout"))
    found = make_breakdown(CONFIG, scores(names, {"a": [1.0], "b": [1.0]}), names, sets, [None])
    assert not shown_breakdown(found, results(found), 0.95)["shown"]
    assert found.origin == "held-out prompt"


def test_notes_name_what_was_left_out() -> None:
    assert set_note(ANIMALS, None) == set_note(ANIMALS, 0) == ""
    own = dataclasses.replace(MIXED, kind="heldout")
    assert set_note(own, None) == ""  # alike prompts of the run's own are different prompts
    lossy = dataclasses.replace(MIXED, skipped={"empty_prompt": 2, "duplicate_prompt": 1})
    assert set_note(lossy, 3) == (
        "Prompts left out of mixed: 1 repeated and 2 empty; repeated in mixed and kept, as published: 1;"
        " also in the training split: 3 of mixed, where a gain may be memory."
    )
    assert origins([ANIMALS, prompt_list("heldout", [], "heldout")], "test") == (
        "of animals and of the test split, which training never reads"
    )


def test_a_slice_is_worse_only_where_its_test_says_so() -> None:
    worse = dataclasses.replace(made().slices[0], won=1, lost=12, adjusted=0.01)
    assert worse.outcome(0.95) == "worse"
    assert dataclasses.replace(worse, adjusted=0.051).outcome(0.95) == "undecided"


def test_several_models_each_meet_the_base() -> None:
    rows = [(f"p{number}", "x" if number < 6 else "y") for number in range(12)]
    sets, _, names = drawn(prompt_list("mine", rows))
    far, near = np.ones(12), np.where(np.arange(12) < 6, 1.0, -1.0)
    values = {"r": {"base": np.zeros(12), "near": near, "far": far}}
    order = np.array([int(name[1:]) for name in names])
    values = {"r": {model: found[order] for model, found in values["r"].items()}}
    found = make_breakdown(CONFIG, values, names, sets, [0], ["near", "far"])
    assert [(one.model, one.label, one.won, one.lost) for one in found.slices] == [
        ("near", "x", 6, 0),
        ("near", "y", 0, 6),
        ("far", "x", 6, 0),
        ("far", "y", 6, 0),
    ]
    assert {one.adjusted for one in found.slices} == {2 * 2 / 2**6}  # of a model, not of both together
    record = breakdown_metrics(found, "half")["sets"]["mine"]["models"]
    assert {model: one["r"]["win_rate"]["value"] for model, one in record.items()} == {"near": 0.5, "far": 1.0}
    ranking = rank_models(CONFIG, values["r"], names, ["near", "far"])
    assert [(one.model, one.won, one.lost, one.outcome(0.95)) for one in ranking] == [
        ("far", 12, 0, "better"),
        ("near", 6, 6, "undecided"),
    ]
    assert ranking[0].adjusted == pytest.approx(2 * 2 / 2**12)  # two models are tested
    assert ranking_record(ranking)["rows"][1]["p_holm"] == 1.0
    shown = shown_breakdown(found, Results("base", "half", found.sets[0].models, None, 0, [], ranking), 0.95)
    assert shown["models"] == ["near", "far"]
    assert [row["found"].model for row in shown["rewards"][0]["sets"]] == ["near", "far"]


def test_a_ranking_is_mirrored_by_swapping_the_models() -> None:
    names = [f"p{number}" for number in range(9)]
    values = {"base": np.arange(9.0), "other": np.arange(9.0)[::-1] + 0.5}
    (forth,) = rank_models(CONFIG, values, names, ["other"])
    (back,) = rank_models(CONFIG, {"base": values["other"], "other": values["base"]}, names, ["other"])
    assert forth.win_rate == pytest.approx(1.0 - back.win_rate)
    assert (forth.won, forth.lost, forth.p) == (back.lost, back.won, back.p)
