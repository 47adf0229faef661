"""Of several retraining runs one holds the lock, whatever crashes, and whatever the clocks say."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prefopt.data.storage import Storage
from prefopt.errors import InputError, StorageError
from prefopt.registry import ConflictError, LockedError, retraining_lock
from prefopt.registry.lock import LOCK, Times
from tests.kit.champions import places

ROOT = Path(__file__).parents[2]
NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)
TTL = timedelta(seconds=600)
HOLD = """
import sys, time
from datetime import timedelta
from prefopt.registry import LockedError, retraining_lock
try:
    with retraining_lock(sys.argv[1], owner=sys.argv[2], ttl=timedelta(seconds=float(sys.argv[3]))):
        print("held", flush=True)
        time.sleep(float(sys.argv[4]))
except LockedError:
    print("locked", flush=True)
"""


class Clock:
    """A clock that goes on only while somebody sleeps, and what happens meanwhile."""

    def __init__(self, hours: float = 0.0) -> None:
        self.now, self.ran, self.slept = NOON + timedelta(hours=hours), 0.0, 0
        self.meanwhile: Callable[[], object] = lambda: None

    def times(self) -> Times:
        return Times(lambda: self.now, lambda: self.ran, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.ran += seconds
        self.slept += 1
        self.meanwhile()


@pytest.fixture(scope="module", params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with places(request.param, tmp_path_factory.mktemp("lock")) as uri:
        yield uri


@pytest.fixture
def uri(root: str, request: pytest.FixtureRequest) -> str:
    return f"{root}/{request.node.originalname}"


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Ends what a test leaves held."""
    with ExitStack() as stack:
        yield stack


def lock_file(uri: str) -> dict[str, Any]:
    return dict(json.loads(Storage(uri).read_bytes(LOCK)))


def change(uri: str, **fields: object) -> None:
    """Write the lock's file as somebody else would."""
    Storage(uri).write_bytes(LOCK, json.dumps({**lock_file(uri), **fields}).encode())


def elsewhere(uri: str, **fields: object) -> None:
    """Make the lock's holder a process of another machine, whose life cannot be seen from here."""
    change(uri, process={"host": "elsewhere", "pid": 1, "space": "other", "started": "1"}, **fields)


def test_a_held_lock_is_refused_with_its_holder_and_free_after_the_block(uri: str) -> None:
    with retraining_lock(uri, owner="monday night") as lock:
        lock.check()
        with pytest.raises(LockedError, match=rf"monday night \(process {os.getpid()} on .*since 20.*Run this again"):
            retraining_lock(uri, owner="second").__enter__()
    assert lock_file(uri)["released"]
    with retraining_lock(uri, owner="third") as lock:
        lock.check()


def test_a_failing_run_frees_the_lock(uri: str) -> None:
    with pytest.raises(ZeroDivisionError), retraining_lock(uri, owner="first"):
        raise ZeroDivisionError
    with retraining_lock(uri, owner="second"):
        assert lock_file(uri)["owner"] == "second"


def test_a_silent_lock_is_watched_for_its_ttl_and_taken_over(uri: str, held: ExitStack) -> None:
    first = held.enter_context(retraining_lock(uri, owner="first", ttl=TTL, times=Clock().times()))
    elsewhere(uri)
    later = Clock(hours=1)
    second = held.enter_context(retraining_lock(uri, owner="second", ttl=TTL, times=later.times()))
    assert later.ran == pytest.approx(600.0)
    second.check()
    with pytest.raises(ConflictError, match=r"lost the lock.*second.*took it.*Nothing was promoted"):
        first.check()
    first.release()
    assert lock_file(uri)["owner"] == "second"
    assert not lock_file(uri)["released"]
    second.check()


@pytest.mark.parametrize("skew", [1.0, -1.0])
def test_a_renewed_lock_is_not_taken_whatever_the_clocks_say(uri: str, skew: float, held: ExitStack) -> None:
    first = held.enter_context(retraining_lock(f"{uri}/{skew}", owner="first", ttl=TTL, times=Clock().times()))
    elsewhere(f"{uri}/{skew}")
    watching = Clock(hours=skew)
    watching.meanwhile = lambda: watching.slept == 5 and change(f"{uri}/{skew}", beat=1)
    with pytest.raises(LockedError, match="first"):
        retraining_lock(f"{uri}/{skew}", owner="second", ttl=TTL, times=watching.times()).__enter__()
    assert watching.slept == 5
    first.check()


def test_a_lock_that_looks_fresh_is_refused_at_once(uri: str, held: ExitStack) -> None:
    held.enter_context(retraining_lock(uri, owner="first", ttl=TTL, times=Clock().times()))
    elsewhere(uri)
    for hours in (0.16, -0.16):
        soon = Clock(hours)
        with pytest.raises(LockedError, match="first"):
            retraining_lock(uri, owner="second", times=soon.times()).__enter__()
        assert soon.slept == 0


def test_a_lock_that_is_released_while_it_is_watched_is_taken(uri: str, held: ExitStack) -> None:
    held.enter_context(retraining_lock(uri, owner="first", ttl=TTL, times=Clock().times()))
    elsewhere(uri)
    watching = Clock(hours=1)
    watching.meanwhile = lambda: watching.slept == 3 and change(uri, released=True)
    held.enter_context(retraining_lock(uri, owner="second", ttl=TTL, times=watching.times())).check()
    assert watching.slept == 3


def test_of_two_that_take_over_one_wins(uri: str, held: ExitStack) -> None:
    held.enter_context(retraining_lock(uri, owner="first", ttl=TTL, times=Clock().times()))
    elsewhere(uri)
    slow, fast = Clock(hours=1), Clock(hours=1)

    def fast_one_wins() -> None:
        if slow.slept == 20:
            held.enter_context(retraining_lock(uri, owner="fast", ttl=TTL, times=fast.times()))

    slow.meanwhile = fast_one_wins
    with pytest.raises(LockedError, match="fast"):
        retraining_lock(uri, owner="slow", ttl=TTL, times=slow.times()).__enter__()
    assert lock_file(uri)["owner"] == "fast"


def test_a_replacement_needs_the_tag_that_was_read(uri: str) -> None:
    storage = Storage(uri)
    assert storage.read_tagged("x") is None
    assert storage.replace("x", b"none", "0" * 32) is None
    storage.create("x", b"first")
    data, tag = storage.read_tagged("x") or (b"", "")
    assert data == b"first"
    newer = storage.replace("x", b"second", tag)
    assert newer
    assert storage.replace("x", b"third", tag) is None
    assert storage.read_tagged("x") == (b"second", newer)
    storage.delete("x")
    assert storage.replace("x", b"fourth", newer) is None


def test_a_lock_is_kept_when_only_the_answer_to_its_writing_was_lost(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Storage.replace

    def cut_off(*arguments: Any) -> None:
        whole(*arguments)
        raise StorageError("no answer")

    with retraining_lock(uri, owner="first") as lock:
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "replace", cut_off)
            with pytest.raises(StorageError):
                lock.check()
        lock.check()
    assert lock_file(uri)["released"]


def test_a_store_that_fails_at_the_end_hides_no_error(
    uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise StorageError("the disk is full")

    def run(patch: pytest.MonkeyPatch) -> None:
        with retraining_lock(uri, owner="first"):
            patch.setattr(Storage, "replace", fails)
            raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        run(patch)
    assert "could not be released and ends by itself in 900 s: the disk is full" in caplog.text


def test_a_removed_or_damaged_file_is_an_error_in_words(uri: str) -> None:
    with retraining_lock(uri, owner="first") as lock:
        Storage(uri).delete(LOCK)
        with pytest.raises(ConflictError, match="its file was removed"):
            lock.check()
    for damaged in (b"", b'{"owner": "first", ', b"[]", b'{"owner": "first"}'):
        Storage(uri).write_bytes(LOCK, damaged)
        with pytest.raises(InputError, match=r"lock\.json is damaged"):
            retraining_lock(uri, owner="second").__enter__()


def test_a_file_that_is_damaged_while_the_lock_is_held_hides_no_error(uri: str) -> None:
    def run() -> None:
        with retraining_lock(uri, owner="first") as lock:
            Storage(uri).write_bytes(LOCK, b"{")
            with pytest.raises(InputError, match="is damaged"):
                lock.check()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


def test_a_thread_renews_the_lock(tmp_path: Path) -> None:
    with retraining_lock(str(tmp_path), owner="first", ttl=timedelta(seconds=0.2)):
        deadline = time.monotonic() + 60
        while lock_file(str(tmp_path))["beat"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    beat = lock_file(str(tmp_path))["beat"]
    time.sleep(0.2)
    assert lock_file(str(tmp_path))["beat"] == beat


def test_of_many_threads_one_holds_the_lock(tmp_path: Path) -> None:
    inside, met, taken = threading.Semaphore(1), [], []

    def work(number: int) -> None:
        for _ in range(200):
            try:
                with retraining_lock(str(tmp_path), owner=f"thread {number}"):
                    met.append(not inside.acquire(blocking=False))
                    taken.append(number)
                    inside.release()
                return
            except LockedError:
                time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(met)
    assert taken


def hold(uri: str, owner: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, uri, owner, "900", str(seconds)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_killed_process_of_this_machine_frees_the_lock_at_once(tmp_path: Path) -> None:
    process = hold(str(tmp_path), "killed", 600)
    try:
        assert said(process) == "held"
        with pytest.raises(LockedError, match=rf"killed \(process {process.pid} "):
            retraining_lock(str(tmp_path), owner="second").__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
        never = Times(sleep=lambda _: pytest.fail("it was waited for"))
        with retraining_lock(str(tmp_path), owner="second", times=never) as lock:
            lock.check()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_of_two_processes_that_find_a_dead_holder_one_gets_the_lock(tmp_path: Path) -> None:
    with retraining_lock(str(tmp_path), owner="first"):
        dead = {**lock_file(str(tmp_path))["process"], "started": "0"}
    change(str(tmp_path), process=dead, released=False)
    processes = [hold(str(tmp_path), f"process {number}", 20) for number in range(2)]
    try:
        assert sorted(said(process) for process in processes) == ["held", "locked"]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
