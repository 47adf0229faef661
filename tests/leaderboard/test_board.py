"""Leaderboards of small hand-made runs."""

import json
import re
import sys

import pytest

from prefopt import cli
from prefopt.data.storage import Storage
from prefopt.errors import ConfigError, InputError, StorageError
from prefopt.leaderboard.board import make_leaderboard
from prefopt.leaderboard.runs import distinct_names, read_runs
from prefopt.leaderboard.tables import group_label, make_tables
from tests.kit.leaderboard import HEADLINE, PROMPTS, made_run, stage_directory
from tests.kit.pages import Page, check_access, check_page, check_scripts

ALL, MOST, NONE = (1, 1, 1, 1, 1, 1), (1, 1, 1, 1, -1, -1), (0, 0, 0, 0, 0, 0)
FILES = {"leaderboard.html", "leaderboard.md", "leaderboard.json"}


def board(tmp_path, *runs, group=False):
    made = make_leaderboard([str(run) for run in runs], str(tmp_path / "out"), group=group)
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES
    return json.loads((tmp_path / "out" / "leaderboard.json").read_text())["tables"], made


def page(tmp_path):
    return (tmp_path / "out" / "leaderboard.html").read_text()


def test_figures_by_hand(tmp_path):
    strong = made_run(tmp_path / "strong", {"tuned": ALL, "other": NONE}, seed=3)
    weak = made_run(tmp_path / "weak", {"tuned": MOST})
    (table,), _ = board(tmp_path, weak, strong)
    rows = table["rows"]
    assert [row["name"] for row in rows] == ["strong", "weak", "strong/other"]
    assert [row["rewards"][HEADLINE]["win_rate"]["value"] for row in rows] == [1.0, pytest.approx(4 / 6), 0.5]
    assert [(row["prompts_won"], row["prompts_lost"]) for row in rows] == [(6, 0), (4, 2), (0, 0)]
    # Sign tests: 2 / 64, 2 (15 + 6 + 1) / 64 and 1; Holm multiplies the smallest by 3 and the next by 2.
    assert [row["p"] for row in rows] == pytest.approx([0.03125, 0.6875, 1.0])
    assert [row["p_holm"] for row in rows] == pytest.approx([0.09375, 1.0, 1.0])
    assert {row["verdict"] for row in rows} == {"undecided"}
    first, second, third = rows
    assert first["training"]["seed"] == 3
    assert first["training"] | {"seed": 0} == second["training"]
    assert {name: second["training"][name] for name in ("objective", "method", "steps", "flipped", "eligible")} == {
        "objective": "adaptive_dpo",
        "method": "lora",
        "steps": 60,
        "flipped": 10,
        "eligible": 50,
    }
    assert (first["accuracy_heldout"]["value"], third["accuracy_heldout"], third["training"]) == (0.6, None, None)
    assert first["rewards"]["world/style"]["win_rate"]["value"] == 0.5
    assert (first["rewards"][HEADLINE]["mean"], table["base_scores"][HEADLINE]["mean"]) == (1.0, 0.0)
    assert (table["prompts"], table["base"], table["headline_reward"], table["notes"]) == (6, "small", HEADLINE, [])
    alone, _ = board(tmp_path, strong.rename(tmp_path / "b"))
    assert [row["p_holm"] for row in alone[0]["rows"]] == [0.0625, 1.0]


def test_one_model_alone_is_better_by_its_own_p(tmp_path):
    (table,), made = board(tmp_path, made_run(tmp_path / "strong", {"tuned": ALL}))
    assert (table["rows"][0]["p_holm"], table["rows"][0]["verdict"]) == (0.03125, "better")
    assert made.lines[0].endswith("It is better than the base.")
    assert "strong wins 100.0% of comparisons with small on world/true, over 6 prompts" in made.lines[0]
    assert "1 model against small" in page(tmp_path)


def test_samples_of_a_prompt_are_one_observation(tmp_path):
    scores, prompts = (1, 1, 1, -1, -1, -1), PROMPTS[:3]
    run = made_run(tmp_path / "run", {"tuned": scores}, prompts=prompts, samples_per_prompt=2)
    (table,), _ = board(tmp_path, run)
    assert [(row["prompts_won"], row["prompts_lost"]) for row in table["rows"]] == [(1, 1)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"base_digest": "c" * 64}, ("base small (bbbbbbbb)", "base small (cccccccc)")),
        ({"prompts": (*PROMPTS[:5], "another")}, ("6 prompts (mine 6) (", "6 prompts (mine 6) (")),
        ({"sampler": {"steps": 20}}, ("50 steps", "20 steps")),
        ({"sampler": {"guidance": 2.5}}, ("guidance 7.5", "guidance 2.5")),
        ({"ties": "nobody"}, ("ties count half", "ties count for nobody")),
        ({"versions": {HEADLINE: "1", "world/style": "2"}}, ("version 1", "version 2")),
        ({"versions": {HEADLINE: "1"}}, ("world/style version 1", "without world/style")),
        ({"versions": {"world/style": "1", HEADLINE: "1"}}, ("ranked by world/true", "ranked by world/style")),
    ],
)
def test_what_differs_is_not_ranked_together(tmp_path, changed, words):
    runs = made_run(tmp_path / "one", {"tuned": ALL}), made_run(tmp_path / "two", {"tuned": MOST}, **changed)
    tables, made = board(tmp_path, *runs)
    assert [table["runs"] for table in tables] == [["one"], ["two"]]
    assert len({table["protocol"]["digest"] for table in tables}) == 2
    assert made.lines[0].startswith("These evaluations do not share their conditions, so that there are 2 tables")
    html = page(tmp_path)
    check_page(html, scripts=1)
    titles = re.findall(r'<a class="anchor" href="#table-\d">(.*?)</a></h2>', html)
    for title, word in zip(titles, words, strict=True):
        assert word.lower() in title.lower()
        assert title.count(",") == 0
    assert html.index("Not one ranking") < html.index("<main")


def test_seed_and_samples_are_conditions_and_the_order_of_prompts_is_not(tmp_path):
    first = made_run(tmp_path / "a", {"tuned": ALL})
    turned = made_run(tmp_path / "b", {"tuned": ALL[::-1]}, prompts=PROMPTS[::-1])
    reseeded = made_run(tmp_path / "c", {"tuned": ALL}, seed=5, method="dpo", on_judge=0)
    assert len(board(tmp_path, first, turned, reseeded)[0]) == 1
    other = made_run(tmp_path / "d", {"tuned": (1, 1)}, base=(0, 0), prompts=PROMPTS[:1], samples_per_prompt=2)
    tables = make_tables(read_runs([str(first), str(other)]))
    assert [table.protocol.samples for table in tables] == [1, 2]


def test_an_unfinished_run_is_named(tmp_path):
    done, empty = made_run(tmp_path / "done", {"tuned": ALL}), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="empty is no run directory"):
        board(tmp_path, done, empty)
    (empty / "run.json").write_text(json.dumps({"train": "a" * 64, "evaluate": "../../../x"}))
    with pytest.raises(ConfigError, match="empty has no finished evaluation: run `prefopt evaluate CONFIG --run-dir"):
        board(tmp_path, done, empty)
    (stage_directory(done) / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="done names an evaluation that is not finished"):
        board(tmp_path, done)
    assert not (tmp_path / "out").exists()


def test_files_that_changed_are_refused(tmp_path):
    run = made_run(tmp_path / "run", {"tuned": ALL})
    metrics = stage_directory(run) / "metrics.json"
    kept = metrics.read_text()
    metrics.write_text(kept.replace('"value": 1.0', '"value": 0.9'))
    with pytest.raises(InputError, match=r"metrics.json was changed after the evaluation"):
        board(tmp_path, run)
    metrics.unlink()
    with pytest.raises(InputError, match=r"lacks metrics.json"):
        board(tmp_path, run)
    metrics.write_text(kept)
    (stage_directory(run) / "scores-base-00000.parquet").unlink()
    with pytest.raises(StorageError, match=r"scores-base-00000.parquet"):
        board(tmp_path, run)
    (run / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run.json is damaged"):
        board(tmp_path, run)


def test_an_evaluation_of_an_earlier_version_is_told_to_run_again(tmp_path):
    from tests.kit.leaderboard import commit

    run = made_run(tmp_path / "run", {"tuned": ALL})
    place, key = stage_directory(run), json.loads((run / "run.json").read_text())["evaluate"]
    found = json.loads((place / "metrics.json").read_text())
    for protocol, words in ((None, "an earlier version of prefopt"), ({**found["protocol"], "seed": 9}, "contradicts")):
        (place / "metrics.json").write_text(json.dumps({**found, "protocol": protocol}))
        files = [file.name for file in place.iterdir() if file.name != "manifest.json"]
        commit(Storage(str(place)), "evaluate", key, files, {})
        with pytest.raises(InputError, match=words):
            board(tmp_path, run)


def test_two_runs_of_one_name(tmp_path):
    runs = [made_run(tmp_path / parent / "final", {"tuned": ALL}) for parent in ("a", "b")]
    (table,), _ = board(tmp_path, *runs)
    assert [row["name"] for row in table["rows"]] == ["a/final", "b/final"]
    assert str(tmp_path) not in page(tmp_path)
    with pytest.raises(ConfigError, match="given twice"):
        board(tmp_path, runs[0], f"{runs[0]}/")


def test_names_are_as_short_as_they_can_be():
    assert distinct_names([("x", "a", "run"), ("y", "a", "run"), ("x", "b", "run"), ("x", "other")]) == [
        "x/a/run",
        "y/a/run",
        "b/run",
        "other",
    ]


def test_comparisons_without_a_run(tmp_path):
    compared = made_run(tmp_path / "arena", {"sdxl": ALL, "sdxl-2": MOST}, stage="compare")
    (table,), _ = board(tmp_path, compared, made_run(tmp_path / "run", {"tuned": NONE}))
    assert [row["name"] for row in table["rows"]] == ["arena/sdxl", "arena/sdxl-2", "run"]
    assert [row["training"] is None for row in table["rows"]] == [True, True, False]
    assert [row["prompts_won"] for row in table["rows"]] == [6, 4, 0]


@pytest.mark.parametrize(
    ("name", "label"),
    [("dpo-seed3", "dpo"), ("dpo-3", "dpo"), ("dpo_seed_12", "dpo"), ("a/dpo.4", "a/dpo"), ("dpo", "dpo"), ("3", "3")],
)
def test_group_labels(name, label):
    assert group_label(name) == label


def test_seeds_of_one_method_are_summed_up(tmp_path):
    runs = [
        made_run(tmp_path / "ipo-seed1", {"tuned": ALL}, seed=1, method="ipo", distances={"tuned": 0.25}),
        made_run(tmp_path / "ipo-seed2", {"tuned": MOST}, seed=2, method="ipo", distances={"tuned": 0.75}),
        made_run(tmp_path / "dpo", {"tuned": NONE}, method="dpo"),
    ]
    (table,), _ = board(tmp_path, *runs, group=True)
    (group,) = table["groups"]
    assert (group["name"], group["n"], group["members"], group["seeds"]) == (
        "ipo",
        2,
        ["ipo-seed1", "ipo-seed2"],
        [1, 2],
    )
    assert group["win_rate"][HEADLINE] == pytest.approx({"mean": 5 / 6, "low": 4 / 6, "high": 1.0})
    assert group["distance_from_base"] == {"mean": 0.5, "low": 0.25, "high": 0.75}
    html = page(tmp_path)
    check_page(html, scripts=1)
    assert "83.3% (66.7% to 100.0%)" in html
    assert len(table["rows"]) == 3
    assert board(tmp_path, *runs)[0][0]["groups"] == []


def test_what_weakens_a_table_is_said(tmp_path):
    runs = [
        made_run(tmp_path / "a", {"tuned": ALL}, on_judge=1, distances={"tuned": 0.25}),
        made_run(tmp_path / "b", {"tuned": ALL}, base=(0, 0, 0, 0, 0, 0.5), level=0.9),
        made_run(tmp_path / "c", {"tuned": ALL}, distances={"tuned": 0.5}, features="dinov2"),
    ]
    (table,), _ = board(tmp_path, *runs)
    judged, base, levels, features = table["notes"]
    assert judged.startswith("world/true also labelled or scored the training pairs of a:")
    assert base.startswith("The base's scores in b are not those in a,")
    assert "90% and 95%; the verdicts follow 95%" in levels
    assert features.startswith("Distances and diversity were measured by dinov2 (dinov2 1) and vae (vae 1)")
    assert "pareto" not in page(tmp_path)


def full_board(tmp_path):
    nasty = "<b>|run"
    runs = [
        made_run(tmp_path / nasty, {"tuned": ALL, "x": NONE}, distances={"tuned": 0.25, "x": 0.125}, seed=1),
        made_run(tmp_path / "weak-2", {"tuned": MOST}, distances={"tuned": 0.5}, seed=2),
        made_run(
            tmp_path / "few steps", {"tuned": MOST, "y": ALL}, distances={"tuned": 0.5, "y": 1}, sampler={"steps": 4}
        ),
    ]
    return runs, board(tmp_path, *runs, group=True)


def test_the_page_stands_alone_and_is_accessible(tmp_path):
    runs, (tables, _) = full_board(tmp_path)
    html = page(tmp_path)
    check_page(html, scripts=1)
    check_access(html)
    check_scripts(html, 1)
    assert "&lt;b&gt;|run" in html
    assert html.count("<svg") == len(tables) == 2
    assert "From the base" in "".join(Page(html).text)
    assert str(tmp_path) not in html
    again = make_leaderboard([str(run) for run in runs], str(tmp_path / "again"), group=True)
    assert (tmp_path / "again" / "leaderboard.html").read_text() == html
    assert json.loads((tmp_path / "again" / "leaderboard.json").read_text()) == again.record


def test_the_summary_in_markdown(tmp_path):
    full_board(tmp_path)
    text = (tmp_path / "out" / "leaderboard.md").read_text()
    assert text.startswith("# 5 models against small\n\n**Not one ranking.**")
    assert "| \\<b\\>\\|run | 100.0% |" in text
    assert "## 50 steps\n" in text
    assert "\n\n\n" not in text
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_all_files_are_written_or_none(tmp_path):
    run, out = made_run(tmp_path / "run", {"tuned": ALL}), tmp_path / "out"
    (out / "leaderboard.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"leaderboard.json"):
        make_leaderboard([str(run)], str(out))
    assert [file.name for file in out.iterdir()] == ["leaderboard.json"]
    with pytest.raises(ConfigError, match="Cannot write to"):
        make_leaderboard([str(run)], str(run / "run.json"))


def test_the_command(tmp_path, monkeypatch, capsys):
    made_run(tmp_path / "one", {"tuned": ALL})
    monkeypatch.chdir(tmp_path)

    def prefopt(*arguments):
        monkeypatch.setattr(sys, "argv", ["prefopt", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    code, out, _ = prefopt("leaderboard", "one")
    assert (code, out.splitlines()[-1]) == (0, "Leaderboard: ./leaderboard.html")
    assert (tmp_path / "leaderboard.html").is_file()
    code, out, _ = prefopt("leaderboard", "one", "--out", "there", "--group", "--json")
    assert json.loads(out) == json.loads((tmp_path / "there" / "leaderboard.json").read_text())
    code, _, err = prefopt("leaderboard", "one", "two")
    assert code == 2
    assert err.startswith("Error: two is no run directory")
