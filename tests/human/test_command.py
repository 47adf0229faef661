"""`prefopt evaluate` with --export-pairs and --import-votes, on a finished evaluation, without Ray."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from prefopt import cli
from prefopt.data.storage import Storage
from prefopt.human.pairs import read_key
from prefopt.stages.chain import Chain
from tests.kit.data import config_tree, distinct, quiet, small_config, write_parquet
from tests.kit.human import evaluation, judgements, rows_of, votes_csv


@pytest.fixture
def prefopt(tmp_path, monkeypatch, capsys):
    """Runs the command where my.yaml has a finished evaluation; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "x.parquet", distinct(4))
    sources = [{"kind": "pickapic", "path": str(tmp_path / "x.parquet")}]
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config_tree(tmp_path, sources)))
    config = small_config(tmp_path, sources)
    chain = Chain(config, str(tmp_path / "runs" / "small"), start_engine=lambda: None, progress=quiet)
    directory = chain.directory("evaluate")
    evaluation(Path(directory.uri), prompts=30, key=chain._keys["evaluate"])
    monkeypatch.setattr("prefopt.distributed.session.start_ray", lambda *given, **named: pytest.fail("no work is left"))
    monkeypatch.setattr("prefopt.distributed.session.stop_ray", lambda: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["prefopt", "evaluate", "my.yaml", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def test_pairs_out_and_votes_in(prefopt, tmp_path):
    code, out, _ = prefopt("--export-pairs", "out/pairs", "--pairs", "20", "--repeat-share", "0.25", "--json")
    made = json.loads(out.splitlines()[-1])
    assert code == 0
    assert (made["pairs"], made["repeats"], made["models"]) == (20, 5, ["base", "tuned"])
    place = Storage(str(Path(made["key"]).parent))
    assert place.uri.endswith(f"runs/small/human/{made['evaluation'][:12]}")
    key, shown = read_key(place), rows_of(tmp_path / "out" / "pairs")
    rows = judgements(key, [row["pair_id"] for row in shown], annotators=5, each=3, rate=1.0)
    (tmp_path / "votes.csv").write_bytes(votes_csv(rows, ["who", "pair_id", "choice"]))
    code, out, _ = prefopt("--import-votes", "votes.csv", "--vote-column", "annotator_id=who", "--json")
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    assert record == json.loads(place.read_bytes("human.json"))
    assert record["comparisons"][0]["wins"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 60}
    assert record["consistency"]["value"] == 1.0
    code, out, _ = prefopt("--import-votes", "votes.csv", "--vote-column", "annotator_id=who")
    assert out.startswith("tuned over base: 100.0% (95% interval 100.0% to 100.0%) of 60 votes on 20 pairs by 5")
    assert "human.md" in out.splitlines()[-1]
    assert b"# Human evaluation" in place.read_bytes("human.md")


def test_without_them_it_is_the_stage(prefopt):
    code, out, _err = prefopt("--json")
    assert (code, json.loads(out)["stage"], json.loads(out)["skipped"]) == (0, "evaluate", True)
    assert prefopt()[1] == "Report: runs/small/report.html\n"


def test_an_export_says_what_to_keep_secret(prefopt, tmp_path):
    code, out, _ = prefopt("--export-pairs", "pairs")
    assert code == 0
    assert "30 pairs and 0 repetitions" in out
    assert "key.json from annotators" in out
    assert not list((tmp_path / "pairs").rglob("key.json"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--pairs", "3"], 2, "need --export-pairs"),
        (["--vote-column", "choice=x"], 2, "needs --import-votes"),
        (["--export-pairs", "out", "--import-votes", "v.csv"], 2, "two steps"),
        (["--export-pairs", "."], 2, "not an empty folder"),
        (["--export-pairs", "out", "--prompt-set", "none"], 2, "no prompt set 'none'"),
        (["--import-votes", "none.csv"], 3, "no votes file"),
        (["--import-votes", "my.yaml"], 3, "There is no"),
        (["--import-votes", "my.yaml", "--vote-column", "x=y"], 2, "must be NAME=COLUMN"),
    ],
)
def test_mistakes_are_told(prefopt, arguments, code, message):
    found, _, err = prefopt(*arguments)
    assert found == code
    assert message in err
