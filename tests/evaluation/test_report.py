import dataclasses
import json
import re

import numpy as np
import pytest
from markupsafe import escape

from prefopt.card.counts import Counts
from prefopt.config.evaluate import BootstrapConfig, EvaluateConfig
from prefopt.data.schema import SOURCES
from prefopt.evaluation.breakdown import make_breakdown
from prefopt.evaluation.charts import running_mean, thin
from prefopt.evaluation.lineage import display_name, shown_config
from prefopt.evaluation.minority import Detection
from prefopt.evaluation.report import ReportInputs, RunPart, render_html, render_markdown
from prefopt.evaluation.results import Comparison, Results, compare, metrics
from prefopt.evaluation.sets import drawn_sets
from prefopt.evaluation.showcase import Picture, Shown
from prefopt.evaluation.statistics import Estimate, Roc
from prefopt.evaluation.wording import caution, headline, side_effects
from prefopt.objectives import OBJECTIVES
from prefopt.objectives.titles import TITLES
from prefopt.prompts import Prompt, PromptList, drawn_prompts
from prefopt.scoring.reliability import Reliability, measure_reliability
from tests.kit.evaluation import evaluation_config, step_lines, verdict_lines
from tests.kit.pages import Page, check_access, check_page, check_scripts

NASTY = '<script>alert("1")</script> | a $x$ & "b" \'c\''


def estimate(value, low=None, high=None, n=10):
    return Estimate(value, low, high, n)


def comparison(reward="world/true", low=0.6, value=0.7, high=0.8, losses=None):
    return Comparison(
        reward=reward,
        wins=estimate(value, low, high),
        losses=losses or estimate(1 - value, high and 1 - high, low and 1 - low),
        ties=0.0,
        mean={"base": -0.25, "tuned": 0.5},
        median={"base": -0.2, "tuned": 0.4},
        gain=estimate(0.75, 0.5, 1.0),
    )


def detection(source="online", known=True):
    edges = np.linspace(0, 1, 5)
    clean = np.array([5.0, 3.0, 1.0, 0.0])
    if not known:
        return Detection(source, edges, clean, None, None, None)
    roc = Roc(np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.9, 1.0]), np.array([1.8, 0.8, 0.1]))
    return Detection(source, edges, clean, clean[::-1], estimate(0.8, 0.7, 0.9), roc)


def reliability(calibrate="platt"):
    alpha, share = np.array([0.52, 0.45, 0.6, 0.9]), np.array([1.0, 0.0, 0.5, 1.0])
    before, after = measure_reliability(alpha, share), measure_reliability(np.array([0.8, 0.1, 0.7, 0.99]), share)
    return Reliability(pairs=4, calibrate=calibrate, before=before, after=after if calibrate != "none" else None)


def inputs(tmp_path, **changed):
    config = evaluation_config(tmp_path / "secret-place" / "my-model", tmp_path / "store")
    results = Results(
        base_name="my-model",
        tie_rule="half",
        models={"tuned": [comparison(), comparison("world/style", 0.4, 0.45, 0.55)]},
        accuracy=estimate(0.6, 0.55, 0.65),
        accuracy_pairs=5,
        detections=[detection(), detection("offline", known=False)],
    )
    picture = Picture("data:image/png;base64,AAAA", -1.25, small=True)
    shown = Shown(NASTY, {"base": picture, "tuned": dataclasses.replace(picture, score=0.5)})
    run = {
        "card": Counts(votes=10, pairs=5, groups={NASTY: {"votes": 4, "flipped": 1}, "b": {"votes": 6, "flipped": 0}}),
        "steps": step_lines(),
        "verdicts": verdict_lines(),
        "reliability": reliability(),
        "manifests": {},
        "sources": SOURCES.empty_table(),
        "key": "",
    }
    told = {name: changed.pop(name, value) for name, value in run.items()}
    values = {"config": config, "results": results, "prompts": 10, "showcase": [shown], "run": RunPart(**told)}
    return ReportInputs(**{**values, **changed})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def html(place):
    return render_html(inputs(place))


def test_the_page_is_well_formed_and_stands_alone(html):
    check_page(html, scripts=1)
    assert {a["href"] for a in Page(html).all("a") if not a["href"].startswith(("https://arxiv.org/abs/", "#"))} == {
        "data-card.html"
    }


def test_the_page_is_accessible(html):
    check_access(html)
    assert all(image["alt"].startswith("Image by the ") for image in Page(html).all("img"))


def test_text_from_data_is_escaped(html, tmp_path):
    check_scripts(html, 1)
    assert "&lt;script&gt;" in html
    assert NASTY in "".join(Page(html).text)
    markdown = render_markdown(
        inputs(
            tmp_path, results=dataclasses.replace(inputs(tmp_path).results, models={"tuned": [comparison("a|b<i>")]})
        )
    )
    assert "a\\|b\\<i\\>" in markdown


def test_no_place_of_this_machine_and_no_worker_count_is_shown(html, place):
    text = html + render_markdown(inputs(place))
    assert str(place) not in text
    assert "secret-place" not in text
    assert "my-model" in text
    shown = shown_config(inputs(place).config)
    left_out = ("workers", "store", "cluster", "checkpoint_every", "threads", "unit_images", "allow_training_rewards")
    for key in left_out:
        assert f"{key}:" not in shown


def test_the_same_inputs_give_the_same_bytes(html, place):
    assert render_html(inputs(place)) == html


def test_charts_take_their_colours_from_the_page(html):
    svg = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--first)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "font-family" not in svg
    assert "flipped (9)" in svg  # text stays text


def test_a_bare_run_has_a_report_too(tmp_path):
    bare = dataclasses.replace(
        inputs(tmp_path).results, accuracy=None, detections=[], models={"tuned": [comparison(low=None, high=None)]}
    )
    made = inputs(tmp_path, results=bare, steps=[], verdicts=[], showcase=[], card=Counts(), reliability=None)
    html = render_html(made)
    assert Page(html).open == []
    for sentence in ("computed no minority metric", "was not measured", "recorded no steps", "too few for an interval"):
        assert sentence in html
    assert render_markdown(made)


@pytest.mark.parametrize("name", TITLES)
def test_every_objective_has_a_report(name, tmp_path):
    made = inputs(tmp_path)
    train = made.config.train.model_copy(update={"objective": OBJECTIVES[name].Params()})
    made = dataclasses.replace(made, config=made.config.model_copy(update={"train": train}))
    html = render_html(made)
    assert str(escape(TITLES[name][0])) in html
    assert (", beta " in html) == hasattr(train.objective, "beta")
    assert render_markdown(made)


def test_reliability_is_shown_before_and_after_calibration(html, place):
    section = html.split('<h2 id="alpha">')[1].split("</section>")[0]
    assert "Its calibration (platt)" in section
    assert section.count("<tr>") == 3
    assert "calibrated</text>" in section or ">calibrated<" in section
    assert f"{reliability().after.ece:.4g}" in section
    assert "- Soft preference: calibration error" in render_markdown(inputs(place))
    plain = render_html(inputs(place, reliability=reliability("none")))
    section = plain.split('<h2 id="alpha">')[1].split("</section>")[0]
    assert "It is not calibrated" in section
    assert section.count("<tr>") == 2


def test_without_validation_pairs_reliability_is_not_known(place):
    nothing = Reliability(pairs=0, calibrate="none", before=None, after=None)
    html = render_html(inputs(place, reliability=nothing))
    assert Page(html).open == []
    assert "The validation split holds no pair" in html
    assert "Soft preference:" not in render_markdown(inputs(place, reliability=nothing))
    assert 'id="alpha"' not in render_html(inputs(place, reliability=None))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (comparison(), "better than its base"),
        (comparison(low=0.2, value=0.3, high=0.4), "worse than its base"),
        (comparison(low=0.4, value=0.52, high=0.6), "cannot be told"),
        (comparison(low=0.1, value=0.2, high=0.3, losses=estimate(0.3, 0.2, 0.4)), "cannot be told"),
    ],
)
def test_the_verdict(found, words, tmp_path):
    results = dataclasses.replace(inputs(tmp_path).results, models={"tuned": [found]})
    sentence = headline(results, 10, 0.95)
    assert words in sentence
    assert sentence.startswith("On 10 held-out prompts")
    assert sentence.count(". ") == 0


def test_a_bad_end_of_training_stands_on_top(tmp_path):
    calm = render_html(inputs(tmp_path))
    assert "Training ended" not in calm
    assert "Verdict at step 12: <strong>learning</strong>" in calm
    ended = [*verdict_lines(), {**verdict_lines()[-1], "step": 13, "verdict": "collapsed", "sentence": NASTY}]
    html = render_html(inputs(tmp_path, verdicts=ended))
    assert "Training ended: collapsed." in html.split("<main>")[0]
    check_scripts(html, 1)
    assert "- Training health: collapsed." in render_markdown(inputs(tmp_path, verdicts=ended))


def test_side_effects_name_what_was_lost():
    worse = comparison("world/style", 0.2, 0.3, 0.4)
    assert side_effects([comparison(), worse]) == "It is worse on world/style (30.0%)."
    assert side_effects([comparison(), comparison("b", 0.4, 0.5, 0.6)]) == "On no other reward is a difference shown."
    assert side_effects([comparison()]) == ""


def test_a_judge_that_took_part_in_training_is_called_out(tmp_path):
    judged = evaluation_config(tmp_path, tmp_path, rewards=["world/taste"], allow_training_rewards=True)
    assert "reward hacking" in caution(judged)
    assert caution(evaluation_config(tmp_path, tmp_path)) == ""


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("world", "world"),
        ("runwayml/stable-diffusion", "runwayml/stable-diffusion"),
        ("/a/b/model/", "model"),
        ("../b/model", "model"),
        ("s3://bucket/b/model", "model"),
    ],
)
def test_display_names_hide_places(path, shown):
    assert display_name(path) == shown


def test_a_shown_config_hides_where_prompts_lie(tmp_path):
    sets = [{"kind": "heldout"}, {"kind": "file", "path": str(tmp_path / "mine.txt")}]
    shown = shown_config(evaluation_config(tmp_path, tmp_path, prompt_sets=sets))
    assert str(tmp_path) not in shown
    assert "path: mine.txt" in shown


def test_a_shown_config_hides_where_snapshots_lie(tmp_path):
    config = evaluation_config(tmp_path, tmp_path)
    assert config.score.panel is not None
    snapshots = (str(tmp_path / "secret" / "policy"), "owner/name@v2")
    score = config.score.model_copy(update={"panel": config.score.panel.model_copy(update={"snapshots": snapshots})})
    shown = shown_config(config.model_copy(update={"score": score}))
    assert str(tmp_path) not in shown
    assert "- policy\n" in shown
    assert "- owner/name@v2\n" in shown
    assert "panel: null" in shown_config(config.model_copy(update={"score": score.model_copy(update={"panel": None})}))


def test_running_mean_and_thinning():
    assert running_mean(np.array([1.0, np.nan, 3.0])).tolist() == [1.0, 2.0, 3.0]
    x = np.arange(4000.0)
    at, values = thin(x, 2 * x)
    assert len(at) == 400
    assert values == pytest.approx(2 * at)


def broken_down():
    """Two sets, slices of one of them, a benchmark, and names that try to break out."""
    rows = [(f"p{number}", NASTY if number % 2 else "plain") for number in range(4)]
    lists = [
        PromptList("mine", "file", tuple(Prompt(*row) for row in rows), {"empty_prompt": 1}),
        PromptList("bench", "hpdv2", (Prompt("q", "anime"), Prompt("r", "photo"))),
    ]
    prompts = drawn_prompts(lists)
    config = EvaluateConfig(rewards=("world/true", "world/style"), bootstrap=BootstrapConfig(resamples=100))
    scores = {name: {"base": np.zeros(6), "tuned": np.arange(6.0) - 2} for name in config.rewards}
    return make_breakdown(config, scores, prompts, drawn_sets(lists, prompts, 1), [1, 0])


def test_sets_slices_and_styles_are_shown(place):
    made = inputs(place, breakdown=broken_down())
    html = render_html(made)
    check_page(html, scripts=1)
    check_access(html)
    check_scripts(html, 1)
    section = html.split('<h2 id="sets">')[1].split("</section>")[0]
    assert section.count("<table>") == 2 * 3
    assert section.count("<details>") == 1  # the reward that is not the headline
    assert "Holm" in section
    assert "left out of mine: 1 empty" in section
    assert "of mine and of bench, from the same initial noise" in html
    assert "On 10 prompts, the" in html
    markdown = render_markdown(made)
    for head in ("| prompt set | prompts | win rate on world/true |", "| slice | set | by |", "| HPDv2 style |"):
        assert head in markdown
    assert "- Prompts left out of mine" in markdown
    assert "\n\n\n" not in markdown
    assert "\\<script\\>" in markdown


def test_one_plain_set_has_no_section(html):
    assert 'id="sets"' not in html
    assert "#sets" not in html


def test_metrics_have_the_agreed_shape(tmp_path):
    found = metrics(inputs(tmp_path).results)
    json.dumps(found, allow_nan=False)
    assert set(found) >= {
        "schema_version",
        "base",
        "models",
        "minority",
        "accuracy_heldout",
        "diversity",
        "distance_from_base",
    }
    assert found["schema_version"] == 1
    record = found["models"]["tuned"]["world/true"]
    assert record["win_rate"] == {"value": 0.7, "low": 0.6, "high": 0.8, "n": 10, "tie_rule": "half"}
    assert (record["mean"], record["median"]) == (0.5, 0.4)
    assert found["minority"]["auroc"] == {"value": 0.8, "low": 0.7, "high": 0.9, "n": 10}
    roc = {"fpr": [0.0, 0.2, 1.0], "tpr": [0.0, 0.9, 1.0], "thresholds": [1.8, 0.8, 0.1]}
    assert found["minority"]["roc"] == roc
    nothing = dataclasses.replace(inputs(tmp_path).results, detections=[], accuracy=None)
    assert metrics(nothing)["minority"] is None
    assert metrics(nothing)["accuracy_heldout"] is None


def test_comparisons_by_hand(tmp_path):
    config = evaluation_config(tmp_path, tmp_path, rewards=["world/true"], ties="nobody").evaluate
    scores = {"world/true": {"base": np.array([0.0, 1.0, 2.0, 3.0]), "tuned": np.array([1.0, 1.0, 1.0, 5.0])}}
    (found,) = compare(config, scores, ["a", "a", "b", "b"])
    assert (found.wins.value, found.losses.value, found.ties, found.gain.value) == (0.5, 0.25, 0.25, 0.5)
    assert (found.mean["tuned"], found.median["base"]) == (2.0, 1.5)
