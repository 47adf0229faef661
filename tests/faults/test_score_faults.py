"""What goes wrong in score: it ends with a clear error or finishes, and the next run does no more than is missing."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefopt.errors import InputError, RewardError, WorkerError
from tests.kit.score_faults import PAIRS, UNIT_IMAGES, Place, place_of_faults

ROOT = Path(__file__).parents[2]
SITE = ROOT / "tests" / "kit" / "site"
LAST = "22-b.png"
"""An image of the last unit."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SITE))
        with place_of_faults(tmp_path_factory.mktemp("faults")) as place:
            yield place


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    shared.take_asked()
    shared.server.mended.clear()
    yield shared
    shared.mend()


def finish(place: Place, name: str) -> None:
    """Run again where nothing goes wrong: only what the stores lack is asked for, once, and the output is as if
    nothing had happened."""
    place.mend()
    place.take_asked()
    missing = place.missing(name)
    place.run(name)
    assert {reward: Counter(asked) for reward, asked in place.take_asked().items()} == {
        reward: Counter(questions) for reward, questions in missing.items()
    }
    assert place.prints(name) == place.prints("undisturbed")
    assert not place.stored_twice(name)


def is_half_done(place: Place, name: str) -> bool:
    """Whether the stores lack a unit at least, and hold one at least, of each reward."""
    return all(UNIT_IMAGES <= len(lacking) <= 2 * PAIRS - UNIT_IMAGES for lacking in place.missing(name).values())


def test_a_killed_actors_unit_is_done_again_and_no_other(place: Place, ray_session: None) -> None:
    place.begin("killed")
    place.tell(kill_call=4)
    place.run("killed", engine="ray")
    assert (place.root / "killed-by-call").exists()
    times = Counter(place.take_asked()["mine"])
    assert sorted(times.values()) == [1] * (2 * PAIRS - UNIT_IMAGES) + [2] * UNIT_IMAGES
    assert place.prints("killed") == place.prints("undisturbed")
    assert not place.stored_twice("killed")


@pytest.mark.slow
def test_a_unit_that_kills_every_actor_ends_the_stage(place: Place, ray_session: None) -> None:
    place.begin("deadly")
    place.tell(kill=place.picture(LAST))
    with pytest.raises(WorkerError, match=r"worked on images died, .* \(3 times at most\) .*finished work is kept"):
        place.run("deadly", engine="ray", workers=1)
    assert Counter(place.take_asked()["mine"]).most_common(1)[0][1] == 4
    assert is_half_done(place, "deadly")
    finish(place, "deadly")


def test_an_image_that_was_cut_short_is_named_and_may_be_put_back(place: Place) -> None:
    path = place.root / "pictures" / LAST
    whole = path.read_bytes()

    def cut(*_: object) -> None:
        path.write_bytes(whole[: len(whole) // 2])

    place.begin("cut")
    with pytest.raises(InputError, match=rf"An image of {LAST} that ingest accepted cannot be decoded.*put it back"):
        place.run("cut", cut)
    path.write_bytes(whole)
    assert is_half_done(place, "cut")
    finish(place, "cut")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "raise",
            "failed with ZeroDivisionError: no colours at all for image [0-9a-f]{32} under the prompt '",
        ),
        ("nan", "gave nan for image [0-9a-f]{32} under the prompt '.*Mend the reward model"),
    ],
)
def test_a_reward_that_fails_for_an_image_names_it_and_may_be_mended(place: Place, fault: str, words: str) -> None:
    place.begin(fault)
    place.tell(**{fault: place.picture(LAST)})
    with pytest.raises(RewardError, match=f"Reward model 'mine' {words}"):
        place.run(fault)
    assert is_half_done(place, fault)
    finish(place, fault)


def test_a_reward_server_that_hangs_ends_the_stage_and_may_come_back(place: Place) -> None:
    place.begin("hangs")
    place.server.hangs_on = place.picture(LAST)
    words = (
        rf"'judge' at {re.escape(place.seen.url)} gave no answer in 2 tries; the last: no whole answer within 3 s"
        r"\. .*raise timeout, retries or backoff of rewards\.models\.judge"
    )
    with pytest.raises(RewardError, match=words):
        place.run("hangs", timeout=3.0, retries=1, backoff=0.01)
    asked = [image for image, _ in place.take_asked()["judge"]]
    assert asked.count(place.server.hangs_on) == 2
    assert is_half_done(place, "hangs")
    finish(place, "hangs")


def with_full_store(place: Place, name: str, mode: str, report: Path) -> list[str]:
    """Run the stage in a process of its own, whose Ray's object store is full; gives class and message of its error."""
    python_path = os.pathsep.join([str(ROOT), str(SITE)])
    arguments = [str(place.root), place.seen.url, name, mode, str(report)]
    end = subprocess.run(
        [sys.executable, "-m", "tests.kit.full_store_main", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert end.returncode == 0, end.stderr[-3000:]
    said: list[str] = json.loads(report.read_text())
    return said


@pytest.mark.slow
def test_a_full_object_store_that_spills_to_disk_hinders_nothing(place: Place, tmp_path: Path) -> None:
    place.begin("spills")
    assert with_full_store(place, "spills", "spills", tmp_path / "report") == []
    assert place.prints("spills") == place.prints("undisturbed")


@pytest.mark.slow
def test_an_object_store_that_is_full_for_good_is_an_error(place: Place, tmp_path: Path) -> None:
    place.begin("stuck")
    kind, message = with_full_store(place, "stuck", "stuck", tmp_path / "report")
    assert kind == "StorageError"
    assert re.search(r"Ray's object store is full, .* images cannot go on\. .*raise cluster\.object_store_mb", message)
    finish(place, "stuck")
