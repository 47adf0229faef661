"""Bad input through the command line: one paragraph, the right exit code, nothing half written."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from prefopt import cli
from prefopt.data.ids import image_id
from prefopt.data.storage import Storage
from prefopt.rewards import REWARDS, RewardSpec
from tests.kit.data import check_manifests, config_tree, distinct, huge_png, judgement, picture, write_parquet
from tests.kit.rewards import Redness

Command = Callable[..., tuple[int, str]]
GOOD = distinct(4)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a stage's command in this process; gives the exit code and standard error's error paragraph."""

    def run(source: dict[str, Any], *arguments: str, stage: str = "ingest", **branches: Any) -> tuple[int, str]:
        config = tmp_path / "my.yaml"
        config.write_text(yaml.safe_dump(config_tree(tmp_path, [source], **branches)))
        where = [] if "--run-dir" in arguments else ["--run-dir", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["prefopt", stage, str(config), *where, *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr().err
        assert "Traceback" not in said
        code = int(end.value.code or 0)
        errors = [line for line in said.splitlines() if line.startswith("Error: ")]
        if code:
            assert len(errors) == 1
            assert said.rstrip().endswith(errors[0])
            assert not list(tmp_path.rglob(f"{stage}/*/manifest.json"))
            assert not list(tmp_path.rglob(".tmp-*"))
        return code, "".join(errors)

    return run


def pickapic(place: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "pickapic", "path": str(write_parquet(place / "x.parquet", rows))}


def test_good_input_is_good(tmp_path: Path, command: Command) -> None:
    assert command(pickapic(tmp_path, GOOD)) == (0, "")
    assert len(check_manifests(str(tmp_path / "run"))) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (judgement("a", b"not an image", 2, 1.0), "bad_image"),
        (judgement("a", picture(1, 64, "JPEG")[:-60], 2, 1.0), "bad_image"),
        (judgement("a", huge_png(10_000, 10_000), 2, 1.0), "image_too_large"),
        (judgement("", 1, 2, 1.0), "empty_prompt"),
        (judgement("x" * 100_000, 1, 2, 1.0), "prompt_too_long"),
        (judgement("a", 1, 2, 1.01), "bad_label"),
        (judgement("a", 1, 2, float("nan")), "bad_label"),
    ],
    ids=["no image", "truncated image", "bomb", "empty prompt", "100 kB prompt", "label outside", "NaN label"],
)  # fmt: skip
def test_a_bad_row_is_set_aside_and_bad_rows_alone_are_refused(
    tmp_path: Path, command: Command, bad: dict[str, Any], reason: str
) -> None:
    code, said = command(pickapic(tmp_path, [bad]))
    assert code == 3
    assert f"All 1 rows were refused, so there is nothing to align with. The first: x.parquet row 0: {reason}" in said
    assert len(said) < 600
    assert command(pickapic(tmp_path, [bad, *GOOD]))[0] == 0
    (manifest,) = check_manifests(str(tmp_path / "run"))
    assert manifest.rows.quarantined == manifest.summary[f"quarantined_{reason}"] == 1
    assert manifest.rows.out == 4


def test_two_votes_of_one_annotator_that_disagree_are_accepted_and_reported(tmp_path: Path, command: Command) -> None:
    rows = [judgement("a", 1, 2, 1.0, "ann"), judgement("a", 1, 2, 0.0, "ann"), *GOOD]
    assert command(pickapic(tmp_path, rows)) == (0, "")
    (manifest,) = check_manifests(str(tmp_path / "run"))
    assert manifest.summary["votes_contradicted"] == 1
    assert manifest.rows.out == 6


def test_a_missing_file(tmp_path: Path, command: Command) -> None:
    code, said = command({"kind": "pickapic", "path": str(tmp_path / "gone.parquet")})
    assert code == 3
    assert f"There is no .parquet file at {tmp_path}/gone.parquet" in said


def test_a_truncated_parquet(tmp_path: Path, command: Command) -> None:
    source = pickapic(tmp_path, GOOD)
    path = tmp_path / "x.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    code, said = command(source)
    assert code == 3
    assert "x.parquet is not a whole parquet file" in said


def test_a_parquet_that_is_damaged_inside(tmp_path: Path, command: Command) -> None:
    source = pickapic(tmp_path, distinct(20))
    path = tmp_path / "x.parquet"
    path.write_bytes(path.read_bytes()[:10] + bytes(300) + path.read_bytes()[310:])
    code, said = command(source)
    assert code == 3
    assert "x.parquet cannot be read after row 0" in said


def test_wrong_columns(tmp_path: Path, command: Command) -> None:
    code, said = command(pickapic(tmp_path, [{"text": "a"}]))
    assert code == 3
    assert "has no column 'caption', 'jpg_0', 'jpg_1', 'label_0'; it has text" in said


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_column_map_that_misses_a_column(tmp_path: Path, command: Command, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    row = {"text": "a", "one": "1.png", "two": "2.png", "choice": 1.0}
    write_parquet(path, [row]) if kind == "parquet" else path.write_text(yaml.safe_dump(row, default_flow_style=True))
    columns = {"shape": "vote", "prompt": "text", "image_0": "one", "image_1": "two", "label": "score"}
    if kind == "jsonl":
        path.write_text('{"text": "a", "one": "1.png", "two": "2.png", "choice": 1.0}\n')
    code, said = command({"kind": "table", "path": str(path), "columns": columns})
    assert code == 3
    assert "has no column 'score'; it has text, one, two, choice" in said


def test_a_column_map_without_a_needed_field(tmp_path: Path, command: Command) -> None:
    columns = {"shape": "vote", "prompt": "text", "image_0": "one", "image_1": "two"}
    code, said = command({"kind": "table", "path": str(tmp_path / "t.jsonl"), "columns": columns})
    assert code == 2
    assert "ingest.sources.0.columns.label: Field required" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "ingest.unit_row=3"], "unknown key 'ingest.unit_row': did you mean 'unit_rows'?"),
        (["--set", "train.steps=0"], "train.steps: Input should be greater than or equal to 1 (given: 0)"),
        (["--set", "train.steps"], "write KEY=VALUE"),
        (["--set", "evaluate.rewards=[world/nice]"], "There is no reward model 'world/nice'"),
    ],
)
def test_bad_configs(tmp_path: Path, command: Command, arguments: list[str], words: str) -> None:
    code, said = command(pickapic(tmp_path, GOOD), *arguments)
    assert code == 2
    assert words in said


def test_bad_usage_is_no_traceback() -> None:
    for arguments in (["ingest"], ["ingest", "x", "--nonsense"], ["nonsense"], ["ingest", "x.yaml", "--limit", "0"]):
        end = subprocess.run([sys.executable, "-m", "prefopt", *arguments], capture_output=True, text=True, check=False)
        assert end.returncode == 2
        assert "Traceback" not in end.stderr


def test_the_command_itself_exits_with_the_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prefopt", "run", str(tmp_path / "gone.yaml")]
    end = subprocess.run(command, capture_output=True, text=True, check=False)
    assert end.returncode == 2
    assert (
        end.stderr
        == f"Error: Cannot read the config {tmp_path}/gone.yaml: No such file or directory. Check the path.\n"
    )
    assert end.stdout == ""


def test_an_unwritable_run_directory(tmp_path: Path, command: Command) -> None:
    (tmp_path / "file").write_text("")
    code, said = command(pickapic(tmp_path, GOOD), "--run-dir", str(tmp_path / "file" / "run"))
    assert code == 2
    assert f"Cannot write to {tmp_path}/file/run" in said


def test_a_read_only_run_directory(tmp_path: Path, command: Command) -> None:
    with mounted(tmp_path / "mount", "ro,size=1m") as place:
        code, said = command(pickapic(tmp_path, GOOD), "--run-dir", str(place / "run"))
    assert code == 2
    assert "permission denied" in said


def test_a_stage_without_its_parents(tmp_path: Path, command: Command) -> None:
    code, said = command(pickapic(tmp_path, GOOD), stage="inject")
    assert code == 3
    assert "inject needs the output of ingest" in said


def test_a_reward_that_returns_nan(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_reward(broken: int | None) -> None:
        load = partial(Redness, broken)
        monkeypatch.setitem(REWARDS, "kit/redness", RewardSpec("kit/redness", version="1", load=load))

    def score() -> tuple[int, str]:
        return command(source, stage="score", score=rewards)

    add_reward(broken=5)
    source, rewards = pickapic(tmp_path, distinct(20)), {"alpha": {"reward": "kit/redness"}}
    for stage in ("ingest", "inject"):
        assert command(source, stage=stage, score=rewards) == (0, "")
    code, said = score()
    assert code == 3
    assert f"Reward model 'kit/redness' gave nan for image {image_id(picture(5))} under the prompt 'prompt 2'" in said
    assert "Mend the reward model, or leave it out of the config." in said
    assert len(said) < 600
    add_reward(broken=None)
    assert score() == (0, "")
    (file,) = (tmp_path / "run" / "score").glob("*/rewards-00000.parquet")
    assert sorted(pq.read_table(file)["score"].to_pylist()) == list(range(40))
    assert len(check_manifests(str(tmp_path / "run"))) == 3


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; skips the test where none can be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root and its mount capability")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(tmp_path: Path, command: Command) -> None:
    rows = [{**row, "caption": f"{n} " + os.urandom(3500).hex()} for n, row in enumerate(distinct(60))]
    with mounted(tmp_path / "mount", "size=128k") as place:
        code, said = command(pickapic(tmp_path, rows), "--run-dir", str(place / "run"))
        assert code == 1
        assert "the disk is full. Free some space and run the same command again" in said
        assert not [name for name in Storage(str(place)).files() if name.endswith("manifest.json")]
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        assert command(pickapic(tmp_path, rows), "--run-dir", str(place / "run")) == (0, "")
        assert len(check_manifests(str(place / "run"))) == 1
