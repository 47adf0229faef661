"""What the command line prints, and what `verify` finds."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from prefopt import __version__, cli
from prefopt.data.storage import Storage
from tests.kit.data import config_tree, distinct, judgement, write_parquet

Prefopt = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prefopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prefopt:
    """Runs the command in this process, in a directory that holds my.yaml; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    write_parquet(tmp_path / "x.parquet", [*distinct(4), judgement("", 1, 2, 1.0)])
    tree = config_tree(tmp_path, [{"kind": "pickapic", "path": "x.parquet"}])
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(tree))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prefopt", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def test_a_stage_prints_one_object_as_its_last_line(prefopt: Prefopt) -> None:
    code, out, err = prefopt("ingest", "my.yaml", "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert answer.keys() == {"stage", "key", "skipped", "rows", "manifest"}
    assert (answer["stage"], answer["skipped"]) == ("ingest", False)
    assert answer["rows"] == {"in": 5, "out": 4, "quarantined": 1}
    assert Path(answer["manifest"]).is_file()
    assert answer["manifest"].startswith("runs/small/ingest/")
    assert err.splitlines()[-1] == "ingest: done (4 votes, 1 quarantined)"
    again = json.loads(prefopt("ingest", "my.yaml", "--json")[1])
    assert again == {**answer, "skipped": True}


def test_progress_is_plain_lines_off_a_terminal(prefopt: Prefopt) -> None:
    _, out, err = prefopt("ingest", "my.yaml")
    assert out == ""
    assert "ingest: rows 1/1" in err.splitlines()
    assert "\x1b" not in err


def test_the_limit_has_a_key_of_its_own(prefopt: Prefopt) -> None:
    whole = json.loads(prefopt("ingest", "my.yaml", "--json")[1])
    few = json.loads(prefopt("ingest", "my.yaml", "--json", "--limit", "2")[1])
    assert few["rows"]["out"] == 2
    assert few["key"] != whole["key"]


def test_verify_hashes_every_file_again(prefopt: Prefopt, tmp_path: Path) -> None:
    prefopt("ingest", "my.yaml")
    code, out, _ = prefopt("verify", "runs/small")
    assert (code, out) == (0, "1 manifests checked, 0 files differ.\n")
    run = Storage(str(tmp_path / "runs" / "small"))
    (votes,) = [name for name in run.files() if name.endswith("votes-00000.parquet")]
    run.write_bytes(votes, bytes(run.size(votes) or 0))
    code, out, _ = prefopt("verify", "runs/small")
    assert code == 1
    assert out == f"{votes}: content differs from the manifest\n1 manifests checked, 1 files differ.\n"


def test_verify_wants_a_run_directory(prefopt: Prefopt) -> None:
    code, _, err = prefopt("verify", "nothing/here")
    assert code == 2
    assert err.startswith("Error: nothing/here holds no finished stage.")


def test_the_version_is_printed(prefopt: Prefopt) -> None:
    assert prefopt("version")[:2] == (0, f"{__version__}\n")
