from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.distributed.training.checkpoints import CheckpointFolder, CheckpointManifest


def write(
    work: Storage, scratch: Path, step: int, *, fingerprint: str = "run", attempt: str = "a", keep: int = 2
) -> None:
    """Commit a made-up checkpoint."""
    folder = CheckpointFolder(work, fingerprint)
    (scratch / "engine").mkdir(parents=True, exist_ok=True)
    (scratch / "engine" / "state.pt").write_bytes(f"state {step}".encode() * 100)
    place = folder.place(step, attempt)
    manifest = CheckpointManifest(
        step=step,
        attempt=attempt,
        fingerprint=fingerprint,
        workers=2,
        zero=1,
        state={"steps": step},
        config={},
        files=folder.publish(place, scratch),
        segments=folder.write_segments({f"segments/steps-{step:08d}.jsonl": b"{}\n" * step}),
    )
    folder.commit(manifest, keep=keep)


@pytest.fixture
def work(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "work"))
    for step in (5, 10, 15):
        write(storage, tmp_path / "scratch", step)
    return storage


def newest(work: Storage) -> int | None:
    manifest, _ = CheckpointFolder(work, "run").newest()
    return manifest.step if manifest else None


def test_the_newest_is_taken_and_old_ones_are_dropped(work: Storage) -> None:
    manifest, passed_over = CheckpointFolder(work, "run").newest()
    assert manifest is not None
    assert (manifest.step, manifest.state, passed_over) == (15, {"steps": 15}, [])
    assert not work.exists("checkpoints/step-00000005.a")
    assert work.exists("checkpoints/step-00000010.a/manifest.json")


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    assert CheckpointFolder(Storage(str(tmp_path)), "run").newest() == (None, [])


DAMAGES = {
    "no manifest": "it was not finished",
    "cut manifest": "its manifest.json is damaged",
    "moved manifest": "its manifest.json is of another checkpoint",
    "cut file": "engine/state.pt has 799 bytes, not 800",
    "changed byte": "engine/state.pt is not what was written, by its sha256",
    "no file": "engine/state.pt is missing",
    "unlisted pickle": "its manifest.json does not list engine/more_optim_states.pt, and nothing unknown is read",
    "unlisted shadow": "its manifest.json does not list shadows/00002.safetensors, and nothing unknown is read",
    "segment": "segments/steps-00000015.jsonl has 3 bytes, not 45",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_newest_is_passed_over_and_it_is_said(work: Storage, damage: str) -> None:
    place = Path(work.path("checkpoints/step-00000015.a"))
    manifest, file = place / "manifest.json", place / "engine" / "state.pt"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "cut manifest":
        manifest.write_bytes(manifest.read_bytes()[:50])
    elif damage == "moved manifest":
        manifest.write_bytes((place.parent / "step-00000010.a" / "manifest.json").read_bytes())
    elif damage == "cut file":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage.startswith("unlisted"):
        name = "engine/more_optim_states.pt" if damage == "unlisted pickle" else "shadows/00002.safetensors"
        Storage(str(place)).write_bytes(name, b"unknown")
    elif damage == "changed byte":
        file.write_bytes(b"X" + file.read_bytes()[1:])
    elif damage == "no file":
        file.unlink()
    else:
        Path(work.path("segments/steps-00000015.jsonl")).write_bytes(b"{}\n")
    found, passed_over = CheckpointFolder(work, "run").newest()
    assert found is not None
    assert found.step == 10
    assert passed_over == [f"The checkpoint after 15 steps is passed over: {DAMAGES[damage]}."]


def test_checkpoints_of_another_run_are_never_taken(work: Storage) -> None:
    found, passed_over = CheckpointFolder(work, "another").newest()
    assert found is None
    assert [line.split(":")[1] for line in passed_over] == [" it belongs to another model, plan or config."] * 2


def test_leftovers_of_an_interrupted_writer_do_no_harm(work: Storage, tmp_path: Path) -> None:
    work.write_bytes("checkpoints/step-00000020.dead/engine/half.pt", b"half")
    assert newest(work) == 15
    write(work, tmp_path / "scratch", 20, attempt="b")
    assert newest(work) == 20
    assert work.exists("checkpoints/step-00000020.dead"), "its writer may be alive"
    CheckpointFolder(work, "run").clear_unfinished()
    assert not work.exists("checkpoints/step-00000020.dead")
    assert newest(work) == 20


def test_what_others_put_into_the_folder_is_no_checkpoint(work: Storage) -> None:
    work.write_bytes("checkpoints/step-of-mine/notes.txt", b"")
    work.write_bytes("checkpoints/README", b"")
    assert newest(work) == 15


def test_a_commit_drops_what_can_never_be_resumed_from(work: Storage, tmp_path: Path) -> None:
    """Checkpoints of another run, or of steps that were taken back, must not push out the one just written."""
    for step in (900, 950):
        write(work, tmp_path / "scratch", step, fingerprint="another")
    write(work, tmp_path / "scratch", 3)
    assert newest(work) == 3
    assert not work.exists("checkpoints/step-00000950.a")


def test_a_step_that_is_saved_again_replaces_its_older_save(work: Storage, tmp_path: Path) -> None:
    write(work, tmp_path / "scratch", 15, attempt="0")
    manifest, _ = CheckpointFolder(work, "run").newest()
    assert manifest is not None
    assert (manifest.step, manifest.attempt) == (15, "0")
    assert not work.exists("checkpoints/step-00000015.a")
    assert work.exists("checkpoints/step-00000010.a/manifest.json")


def test_one_alone_can_be_kept(work: Storage, tmp_path: Path) -> None:
    write(work, tmp_path / "scratch", 20, keep=1)
    assert {path.split("/")[1] for path in work.files("checkpoints")} == {"step-00000020.a"}


def test_parts_of_another_save_do_not_count(work: Storage) -> None:
    folder = CheckpointFolder(work, "run")
    dead, alive = folder.place(20, "dead"), folder.place(20, "alive")
    folder.write_part(dead, 1, [])
    assert folder.read_part(dead, 1) == []
    assert folder.read_part(alive, 1) is None
