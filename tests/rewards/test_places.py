import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.rewards.files import FileSet
from prefopt.rewards.places import Sources, find
from tests.kit.s3 import object_store
from tests.rewards.fake_hub import COMMIT, fake_hub

FILES = FileSet(needed=("config.json",), safe=("model.safetensors",), pickled=("model.pt",))
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "README.md": b"words"}


def sources(tmp_path: Path, node: str = "node", allow_pickles: bool = False) -> Sources:
    return Sources(tmp_path / node, Storage(str(tmp_path / "memory")), allow_pickles)


def write(place: Path, content: dict[str, bytes] | None = None) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name, data in (content or CONTENT).items():
        (place / name).write_bytes(data)
    return place


def test_a_directory_is_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    place = find("a", FILES, "field", sources(tmp_path))
    monkeypatch.chdir("/")
    files = place.fetch(sources(tmp_path))
    assert files.directory == tmp_path / "a"
    assert files.weights == tmp_path / "a" / "model.safetensors"


def test_other_content_on_a_worker_is_refused(tmp_path: Path) -> None:
    place = find(str(write(tmp_path / "a")), FILES, "field", sources(tmp_path))
    (tmp_path / "a" / "model.safetensors").write_bytes(b"Weights" * 1000)
    with pytest.raises(InputError, match=r"field: .*/a holds other files on this machine"):
        place.fetch(sources(tmp_path, "other"))


def test_only_files_that_are_read_count(tmp_path: Path) -> None:
    place = find(str(write(tmp_path / "a")), FILES, "field", sources(tmp_path))
    write(tmp_path / "a", {"README.md": b"other words", "model.pt": b"pickled"})
    assert find(str(tmp_path / "a"), FILES, "field", sources(tmp_path)) == place
    (tmp_path / "a" / "config.json").write_text("{ }")
    assert find(str(tmp_path / "a"), FILES, "field", sources(tmp_path)).digest != place.digest


def test_a_digest_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = find(str(write(tmp_path / "a")), FILES, "field", sources(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
        assert find(str(tmp_path / "a"), FILES, "field", sources(tmp_path)) == place
        place.fetch(sources(tmp_path))
    (tmp_path / "full").write_text("")
    unwritable = Sources(tmp_path / "full" / "cache", Storage(str(tmp_path / "memory")), False)
    assert find(str(tmp_path / "a"), FILES, "field", unwritable) == place, "a memory that fails is no error"


def test_neither_a_directory_nor_a_hub_id(tmp_path: Path) -> None:
    for where in ("/no/such/place", "name", "a/b/c"):
        with pytest.raises(InputError, match=f"field: there is no directory {where}, and it is no hub id"):
            find(where, FILES, "field", sources(tmp_path))


def test_an_object_store_is_fetched_once_per_node(tmp_path: Path) -> None:
    with object_store() as uri:
        storage = Storage(f"{uri}/weights/clip")
        for name, data in CONTENT.items():
            storage.write_bytes(name, data)
        place = find(storage.uri, FILES, "field", sources(tmp_path))
        assert place.digest == find(str(write(tmp_path / "a")), FILES, "field", sources(tmp_path)).digest
        assert not (tmp_path / "node" / "weights").exists(), "finding fetches nothing"
        first, second = (place.fetch(sources(tmp_path, node)) for node in ("one", "two"))
        assert first.directory != second.directory
        for files in (first, second):
            assert files.weights is not None
            assert files.weights.read_bytes() == CONTENT["model.safetensors"]
            assert sorted(path.name for path in files.directory.iterdir()) == [
                "config.json",
                "model.safetensors",
                "sizes.json",
            ]
        storage.delete("model.safetensors")
        assert place.fetch(sources(tmp_path, "one")) == first, "what a node has is not asked for again"
        storage.write_bytes("model.safetensors", b"other")
        with pytest.raises(InputError, match="has changed since the run was planned"):
            place.fetch(sources(tmp_path, "three"))
        assert find(storage.uri, FILES, "field", sources(tmp_path)).digest != place.digest
        storage.delete("config.json")
        with pytest.raises(InputError, match=r"field: s3://bucket/weights/clip lacks config.json"):
            find(storage.uri, FILES, "field", sources(tmp_path))


def hub_cache(tmp_path: Path, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, offline: bool = True) -> Path:
    """A hub cache that holds these files of owner/name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    repository = tmp_path / "hub" / "models--owner--name"
    write(repository / "refs", {"main": COMMIT.encode()})
    return write(repository / "snapshots" / COMMIT, content)


def test_a_commit_on_the_hub_is_found_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    first = find(f"owner/name@{COMMIT}", FILES, "field", sources(tmp_path))
    assert first.commit == COMMIT
    assert first.digest != find(f"owner/other@{COMMIT}", FILES, "field", sources(tmp_path)).digest
    assert first.digest != find(f"owner/name@{COMMIT[::-1]}", FILES, "field", sources(tmp_path)).digest
    assert not (tmp_path / "hub").exists()


def test_cached_hub_files_are_used_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = hub_cache(tmp_path, CONTENT, monkeypatch)
    pinned = find(f"owner/name@{COMMIT}", FILES, "field", sources(tmp_path))
    files = pinned.fetch(sources(tmp_path))
    assert (files.directory, files.weights) == (there, there / "model.safetensors")
    for unpinned in ("owner/name", "owner/name@main"):
        assert find(unpinned, FILES, "field", sources(tmp_path)).digest == pinned.digest


def test_what_the_hub_cache_lacks_is_said_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_cache(tmp_path, {"config.json": b"{}"}, monkeypatch)
    with pytest.raises(InputError, match=r"field: (cannot fetch|owner/name@\w+ (has no|holds none))"):
        find(f"owner/name@{COMMIT}", FILES, "field", sources(tmp_path)).fetch(sources(tmp_path))
    with pytest.raises(
        InputError, match=r"field: which commit owner/other@main is cannot be found out \(HF_HUB_OFFLINE"
    ):
        find("owner/other", FILES, "field", sources(tmp_path))


def test_pickled_weights_in_the_hub_cache_need_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = hub_cache(tmp_path, {"config.json": b"{}", "model.pt": b"pickled"}, monkeypatch)
    place = find(f"owner/name@{COMMIT}", FILES, "field", sources(tmp_path))
    assert place.fetch(sources(tmp_path, allow_pickles=True)).weights == there / "model.pt"
    with pytest.raises(InputError, match=r"field: owner/name@\w+ has no model.safetensors, at best it has model.pt"):
        place.fetch(sources(tmp_path))


FETCH = """
import sys
from pathlib import Path
from prefopt.data.storage import Storage
from prefopt.rewards.places import Sources, find
from tests.rewards.test_places import FILES

sources = Sources(Path(sys.argv[1]), Storage(sys.argv[1]), sys.argv[3] == "allow")
place = find(sys.argv[2], FILES, "field", sources)
print(place.commit, place.fetch(sources).weights.read_bytes()[:7].decode())
"""


@pytest.mark.parametrize("pickled", [False, True])
def test_the_hub_is_asked_for_what_is_read_and_no_more(tmp_path: Path, pickled: bool) -> None:
    content = {"config.json": b"{}", "README.md": b"words", "model.pt": b"pickled" * 9}
    if not pickled:
        content["model.safetensors"] = b"weights" * 1000
    with fake_hub("owner/name", content) as (endpoint, asked):
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", FETCH, str(tmp_path / "cache"), "owner/name", "allow" if pickled else "no"]
        running = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        answers = [process.communicate(timeout=60) for process in running]
    wanted = {"config.json", "model.pt" if pickled else "model.safetensors"}
    assert [out for out, _ in answers] == [f"{COMMIT} {'pickled' if pickled else 'weights'}\n"] * 2, answers
    assert set(asked) == wanted
    assert len(asked) == len(wanted), "two processes of a node fetch each file once"
