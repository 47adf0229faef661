import base64
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefopt.config import dump_config, parse_config
from prefopt.config.rewards import HttpModel
from prefopt.errors import ConfigError, PrefoptError, RewardError
from prefopt.rewards import checked_scores, reward_spec
from prefopt.rewards.http import HttpReward
from tests.kit.data import config_tree
from tests.rewards.checkpoints import pictures, run_config
from tests.rewards.endpoint import Endpoint, answer, drip, endpoint, hang

NAMES = [f"image {number}" for number in range(9)]


def reward(seen: Endpoint, **settings: Any) -> HttpReward:
    given = {"url": seen.url, "version": "3", "backoff": 0.01, "timeout": 5.0, **settings}
    return HttpReward("judge", HttpModel(kind="http", **given))


def score(judge: HttpReward, count: int = 3) -> np.ndarray:
    return checked_scores(judge, pictures(count), ["a" * number for number in range(count)], NAMES[:count])


def wanted(count: int) -> list[float]:
    return [np.asarray(image)[..., 0].mean() + number for number, image in enumerate(pictures(count))]


def test_images_and_prompts_go_out_and_scores_come_back() -> None:
    with endpoint() as seen:
        scores = score(reward(seen, batch=4), 9)
    assert scores.dtype == np.float32
    assert scores == pytest.approx(wanted(9))
    assert [len(request["images"]) for request in seen.requests] == [4, 4, 1]
    assert seen.headers[0]["Content-Type"] == "application/json"
    assert set(seen.requests[0]) == {"images", "prompts"}


def test_a_spec_asks_nothing_and_is_identified_by_the_configured_version(tmp_path: Path) -> None:
    def spec(**changes: object) -> Any:
        model = {"kind": "http", "url": "http://nowhere.invalid/", "version": "3", **changes}
        return reward_spec("judge", run_config(tmp_path, models={"judge": model}))

    assert spec().load().name == "judge"
    assert spec().version == spec(url="http://elsewhere.invalid", timeout=3, batch=2).version
    assert spec().version != spec(version="4").version


def test_requests_are_cut_to_their_size() -> None:
    with endpoint() as seen:
        whole = reward(seen, batch=8)
        score(whole, 8)
        limit = seen.bodies[0] * 0.6
        assert score(reward(seen, batch=8, request_mb=limit / 1e6), 8) == pytest.approx(wanted(8))
        assert all(size <= limit for size in seen.bodies[1:])
        with pytest.raises(RewardError, match=r"'judge' cannot score image 0 under the prompt '': as PNG .*request_mb"):
            score(reward(seen, request_mb=0.001))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(status: int) -> None:
    with endpoint(*[lambda handler, _: answer(handler, {"error": "busy"}, status)] * 2) as seen:
        assert score(reward(seen, retries=2)) == pytest.approx(wanted(3))
        assert len(seen.requests) == 3
        assert seen.requests[0] == seen.requests[2]


def test_a_lasting_failure_ends_with_its_reason() -> None:
    with endpoint(*[lambda handler, _: answer(handler, b"out of memory", 500)] * 9) as seen:
        with pytest.raises(
            RewardError,
            match=r"'judge' at http://127.0.0.1:\d+/score gave no answer in 3 tries; the last:"
            r" status 500 out of memory",
        ):
            score(reward(seen, retries=2))
        assert len(seen.requests) == 3


def test_pauses_double_and_end_at_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with endpoint(*[lambda handler, _: answer(handler, b"", 500)] * 9) as seen, pytest.raises(RewardError):
        score(reward(seen, retries=6, backoff=2.0))
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("behaviour", [hang, drip])
def test_an_endpoint_that_hangs_or_drips_is_left(behaviour: Any) -> None:
    with endpoint(behaviour, behaviour) as seen:
        start = time.monotonic()
        with pytest.raises(RewardError, match=r"gave no answer in 1 try; the last: no whole answer within 0.5 s"):
            score(reward(seen, timeout=0.5, retries=0))
        assert time.monotonic() - start < 2.0
        assert score(reward(seen, timeout=0.5, retries=1)) == pytest.approx(wanted(3)), "the next try is answered"


def test_nobody_answers() -> None:
    with endpoint() as seen:
        pass
    with pytest.raises(RewardError, match=r"gave no answer in 2 tries; the last: ConnectionRefusedError"):
        score(reward(seen, retries=1))


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ({"scores": [1.0, 2.0]}, 200, "answered with 2 scores for 3 images"),
        ({"scores": [1.0, None, 2.0]}, 200, r'did not answer with {"scores": \[numbers\]}'),
        ({"scores": [1.0, True, 2.0]}, 200, r'did not answer with {"scores"'),
        ({"scores": {"a": 1}}, 200, r'did not answer with {"scores"'),
        ([1.0, 2.0, 3.0], 200, r'did not answer with {"scores"'),
        (b"<html>hello</html>", 200, "did not answer with JSON: <html>hello</html>"),
        (b"[" * 200_000, 200, "did not answer with JSON"),
        (b" " * 2_000_000, 200, "answered with more than 1048576 bytes"),
        ({"scores": [1.0, 2.0, 3.0], "version": "4"}, 200, "is version '4' and not '3' as in the config"),
        ({"error": "no such model"}, 404, r'answered with status 404 {"error": "no such model"}'),
        (b"", 301, "answered with status 301"),
    ],
)
def test_an_answer_that_cannot_be_used_is_not_asked_for_again(content: Any, status: int, words: str) -> None:
    with endpoint(lambda handler, _: answer(handler, content, status)) as seen:
        with pytest.raises(RewardError, match=words):
            score(reward(seen))
        assert len(seen.requests) == 1


def test_a_score_that_is_not_finite_names_its_image() -> None:
    words = r"'judge' gave nan for image 1 under the prompt 'a'"
    behaviour = lambda handler, _: answer(handler, b'{"scores": [1.0, NaN, 2.0]}')  # noqa: E731
    with endpoint(behaviour) as seen, pytest.raises(RewardError, match=words):
        score(reward(seen))


def test_credentials_are_sent_and_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with endpoint(lambda *_: False, *[lambda handler, _: answer(handler, b"no", 500)] * 3) as seen:
        url = f"http://us%40er:s3cret@127.0.0.1:{seen.port}/score?key=s3cret2"
        models = {"judge": {"kind": "http", "url": url, "version": "3", "retries": 1, "backoff": 0.01}}
        config = run_config(tmp_path, models=models)
        judge = reward_spec("judge", config).load()
        assert score(judge) == pytest.approx(wanted(3))
        assert seen.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"us@er:s3cret").decode()
        assert seen.paths[0] == "/score?key=s3cret2"
        with pytest.raises(RewardError) as caught:
            score(judge)
    said = [str(caught.value), repr(config), str(config), config.model_dump_json(), dump_config(config), caplog.text]
    assert not [text for text in said if "s3cret" in text]
    assert f"http://***@127.0.0.1:{seen.port}/score?***" in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "http", "url": "ftp://u:s3cret@host/x", "version": "1"},
        {"kind": "http", "url": "http://u:s3cret@host:99999999/x", "version": "1"},
        {"kind": "http", "url": "http://u:s3cret@ho st/x", "version": "1"},
        {"kind": "http", "url": "http://u:s3cret@/x", "version": "1"},
        {"kind": "http", "url": "http://u:s3cret@host/x"},
        {"kind": "http", "url": "http://u:s3cret@host/x", "version": "1", "timeout": -1},
        {"kind": "http", "url": "http://u:s3cret@host/x", "version": "1", "retry": 3},
        "http://u:s3cret@host/x",
    ],
)
def test_a_bad_setting_is_refused_without_the_password(tmp_path: Path, model: Any) -> None:
    tree = config_tree(tmp_path, [{"kind": "world", "pairs": 2}], rewards={"models": {"judge": model}})
    with pytest.raises(ConfigError) as caught:
        parse_config(tree, "config")
    assert "rewards.models.judge" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_errors_are_for_users() -> None:
    assert issubclass(RewardError, PrefoptError)
    with endpoint(lambda handler, _: answer(handler, {"scores": []})) as seen, pytest.raises(RewardError) as caught:
        score(reward(seen))
    assert "\n" not in str(caught.value)
    assert json.dumps(str(caught.value))
