import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefopt.config import RunConfig
from prefopt.errors import ConfigError, RewardError
from prefopt.rewards import checked_scores, reward_spec
from tests.rewards.checkpoints import pictures, run_config

MODULE = """
import numpy as np


class Width:
    def __init__(self, scale=1.0, version="7"):
        self.version, self.scale, self.device = version, scale, None

    def load(self, device):
        if self.scale == 13:
            raise OSError("no weights here")
        self.device = device

    def score(self, images, prompts):
        assert self.device is not None
        return np.array([self.scale * image.width for image in images], dtype=np.float32)


class Plain:
    version = "1"

    def score(self, images, prompts):
        if any(prompt == "boom" for prompt in prompts):
            raise KeyError("boom")
        count = len(images)
        return {"list": [1.0] * count, "short": np.zeros(1, np.float32), "wide": np.zeros(count)}[prompts[0]]


def unfinished():
    raise RuntimeError("not yet")


class Nameless:
    def score(self, images, prompts):
        return None


class Scoreless:
    version = "1"


class Number:
    version = 1

    def score(self, images, prompts):
        return None
"""
ENTRIES = {
    "width": "their_rewards:Width",
    "plain": "their_rewards:Plain",
    "unfinished": "their_rewards:unfinished",
    "nameless": "their_rewards:Nameless",
    "scoreless": "their_rewards:Scoreless",
    "number": "their_rewards:Number",
    "gone": "their_rewards:Gone",
    "absent": "no_such_module:X",
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that registers rewards."""
    site = tmp_path / "site"
    about = site / "their_rewards-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "their_rewards.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rewards\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in ENTRIES.items()]
    (about / "entry_points.txt").write_text("\n".join(["[prefopt.rewards]", *lines, ""]))
    monkeypatch.syspath_prepend(str(site))


def settings(tmp_path: Path, **model: Any) -> RunConfig:
    return run_config(tmp_path, models={"mine": {"kind": "entry_point", **model}})


def test_a_registered_name_is_a_reward(tmp_path: Path) -> None:
    images = pictures(3)
    for spec in (reward_spec("width"), reward_spec("width", run_config(tmp_path))):
        reward = pickle.loads(pickle.dumps(spec)).load()
        assert reward.name == "width"
        assert reward.score(images, ["", "", ""]).tolist() == [image.width for image in images]


def test_options_and_another_name(tmp_path: Path) -> None:
    spec = reward_spec("mine", settings(tmp_path, entry_point="width", options={"scale": 0.5}))
    assert (spec.name, spec.load().name) == ("mine", "mine")
    assert spec.load().score(pictures(1), [""]).tolist() == [pictures(1)[0].width / 2]


def test_the_version_is_the_objects_and_the_options(tmp_path: Path) -> None:
    def version(**options: Any) -> str:
        return reward_spec("mine", settings(tmp_path, entry_point="width", options=options)).version

    assert "7" in version()
    assert len({version(), version(scale=2.0), version(version="8"), version(scale=2.0, version="8")}) == 4
    assert version(scale=2.0) == version(scale=2.0)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            "nobody",
            r"No installed package registers 'nobody' in the entry point group prefopt.rewards \(registered: abs",
        ),
        ("unfinished", r"\(entry point 'unfinished', their_rewards:unfinished\) cannot be made: RuntimeError: not yet"),
        ("gone", r"cannot be made: AttributeError"),
        ("absent", r"cannot be made: ModuleNotFoundError: No module named 'no_such_module'"),
        ("nameless", r"has no version: give it an attribute `version`"),
        ("number", r"has no version"),
        ("scoreless", r"has no method score\(images, prompts\)"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_work(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"'mine'.*{words}|{words}"):
        reward_spec("mine", settings(tmp_path, entry_point=entry))


def test_options_that_it_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be made: TypeError: .*colour"):
        reward_spec("mine", settings(tmp_path, entry_point="width", options={"colour": "red"}))


def test_a_load_that_fails_names_the_reward(tmp_path: Path) -> None:
    spec = reward_spec("mine", settings(tmp_path, entry_point="width", options={"scale": 13}))
    with pytest.raises(RewardError, match="The reward 'mine' failed to load: OSError: no weights here"):
        spec.load()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (["list", "x", "boom"], r"'plain' failed with KeyError: 'boom' for image 2 under the prompt 'boom'"),
        (["list", "x", "y"], r"'plain' gave a list for image 0 to image 2: it must give a numpy array, float32 \(3,\)"),
        (
            ["short", "x", "y"],
            r"'plain' gave float32 \(1,\) for 3 images: it must give float32 \(3,\). .*image 0 to image",
        ),
        (["wide", "x", "y"], r"'plain' gave float64 \(3,\) for 3 images"),
    ],
)
def test_what_it_does_wrong_names_it_and_the_image(prompts: list[str], words: str) -> None:
    with pytest.raises(RewardError, match=words):
        checked_scores(reward_spec("plain").load(), pictures(3), prompts, ["image 0", "image 1", "image 2"])


def test_scores_reach_callers_as_they_are() -> None:
    scores = checked_scores(reward_spec("width").load(), pictures(2), ["", ""], ["image 0", "image 1"])
    assert scores.dtype == np.float32
