from pathlib import Path

import pytest

from prefopt.data.manifest import describe_file
from prefopt.data.storage import Storage
from prefopt.distributed.training.checkpoints import CheckpointFolder, CheckpointManifest, check_workers
from prefopt.errors import ConfigError


def _write(folder: CheckpointFolder, work: Storage, scratch: Path, step: int, *, fingerprint: str = "run") -> None:
    scratch.mkdir(exist_ok=True)
    (scratch / "state.pt").write_bytes(f"state {step}".encode() * 100)
    segment = f"segments/steps-{step:08d}.jsonl"
    work.write_bytes(segment, b"{}\n" * step)
    manifest = CheckpointManifest(
        step=step,
        fingerprint=fingerprint,
        workers=2,
        zero=1,
        state={"steps": step},
        files=folder.publish(step, scratch, "engine"),
        segments=[describe_file(work, segment)],
    )
    folder.commit(manifest, keep=2)


@pytest.fixture
def work(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "work"))
    folder = CheckpointFolder(storage, "run")
    for step in (5, 10, 15):
        _write(folder, storage, tmp_path / "scratch", step)
    return storage


def _newest(work: Storage) -> int | None:
    manifest = CheckpointFolder(work, "run").newest()
    return manifest.step if manifest else None


def test_the_newest_is_taken_and_old_ones_are_dropped(work: Storage) -> None:
    assert _newest(work) == 15
    assert not work.exists("checkpoints/step-00000005")
    assert work.exists("checkpoints/step-00000010/manifest.json")


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    assert _newest(Storage(str(tmp_path))) is None


@pytest.mark.parametrize("damage", ["no manifest", "cut manifest", "cut file", "changed byte", "no file", "segment"])
def test_a_broken_newest_is_passed_over(work: Storage, damage: str) -> None:
    place = Path(work.path("checkpoints/step-00000015"))
    manifest, file = place / "manifest.json", place / "engine" / "state.pt"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "cut manifest":
        manifest.write_bytes(manifest.read_bytes()[:50])
    elif damage == "cut file":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "changed byte":
        file.write_bytes(b"X" + file.read_bytes()[1:])
    elif damage == "no file":
        file.unlink()
    else:
        Path(work.path("segments/steps-00000015.jsonl")).write_bytes(b"{}\n")
    assert _newest(work) == 10


def test_checkpoints_of_another_run_are_never_taken(work: Storage) -> None:
    assert CheckpointFolder(work, "another").newest() is None


def test_leftovers_of_an_interrupted_writer_do_no_harm(work: Storage, tmp_path: Path) -> None:
    work.write_bytes("checkpoints/step-00000020/engine/half.pt", b"half")
    assert _newest(work) == 15
    folder = CheckpointFolder(work, "run")
    folder.clear(20)
    _write(folder, work, tmp_path / "scratch", 20)
    assert _newest(work) == 20
    assert not work.exists("checkpoints/step-00000020/engine/half.pt")


def test_another_number_of_workers(work: Storage) -> None:
    manifest = CheckpointFolder(work, "run").newest()
    assert manifest is not None
    check_workers(manifest, 2, 1)
    check_workers(manifest, 1, 0)
    with pytest.raises(ConfigError, match=r"set train\.workers to 2"):
        check_workers(manifest, 1, 1)


def test_a_commit_drops_what_can_never_be_resumed_from(work: Storage, tmp_path: Path) -> None:
    """Checkpoints of another run, or of steps that were taken back, must not push out the one just written."""
    other = CheckpointFolder(work, "another")
    for step in (900, 950):
        _write(other, work, tmp_path / "scratch", step, fingerprint="another")
    _write(CheckpointFolder(work, "run"), work, tmp_path / "scratch", 3)
    assert _newest(work) == 3
    assert not work.exists("checkpoints/step-00000950")
