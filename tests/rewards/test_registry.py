import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionModelWithProjection,
)

from prefopt.config import RunConfig, parse_config
from prefopt.config.rewards import PUBLISHED, RewardsConfig
from prefopt.errors import ConfigError
from prefopt.models.identity import with_absolute_places
from prefopt.rewards import reward_resources, reward_spec
from prefopt.rewards.head import LinearHead
from tests.kit.data import config_tree
from tests.rewards.checkpoints import clip_config, clip_state, pictures, run_config, write_clip


def test_published_names_need_no_entry() -> None:
    assert set(PUBLISHED) == {"pickscore", "hpsv2", "hpsv2.1", "imagereward", "aesthetic", "clip"}
    specs = {name: reward_spec(name) for name in ("pickscore", "aesthetic", "clip")}
    specs |= {name: reward_spec(name, run_config(Path("/x"), allow_pickles=True)) for name in PUBLISHED}
    assert len({spec.version for spec in specs.values()}) == 6
    for name, spec in specs.items():
        assert spec.name == name
        code = 1 if name in ("imagereward", "aesthetic") else 2
        assert spec.version.startswith(f"{name} {code} fp32 ")
        assert pickle.loads(pickle.dumps(spec)).version == spec.version


def test_published_places_are_commits() -> None:
    for model in PUBLISHED.values():
        for name, value in model.model_dump().items():
            if isinstance(value, str) and name != "kind":
                assert len(value.partition("@")[2]) == 40, (model.kind, name)


def test_an_unknown_name_lists_what_is_known(tmp_path: Path) -> None:
    models = {"judge": {"kind": "http", "url": "http://host/", "version": "1"}}
    with pytest.raises(
        ConfigError, match=r"no reward model 'nice'. Known: aesthetic, clip, hpsv2, .*judge.*world/true"
    ):
        reward_spec("nice", run_config(tmp_path, models=models))


def test_knowing_a_reward_imports_no_torch() -> None:
    code = "import sys, prefopt.rewards; sys.exit(bool({'torch', 'transformers', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_a_reward_imports_no_torchvision(tmp_path: Path) -> None:
    place = str(write_clip(tmp_path / "clip", clip_state(1), clip_config()))
    reward = reward_spec("clip", run_config(tmp_path, models={"clip": {"weights": place}})).load()
    reward.score(pictures(1), ["a cat"])
    assert "torchvision" not in sys.modules


def test_relative_places_are_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clip", clip_state(1), clip_config())
    monkeypatch.chdir(tmp_path)
    config = with_absolute_places(run_config(tmp_path, models={"clip": {"weights": "clip"}}))
    monkeypatch.chdir("/")
    assert reward_spec("clip", config).load().score(pictures(1), ["a cat"]).shape == (1,)
    hub = with_absolute_places(run_config(tmp_path)).rewards
    assert hub == run_config(tmp_path).rewards


def judged(tmp_path: Path, judge: str, scorer: str, models: dict[str, Any] | None = None) -> RunConfig:
    branches = {
        "score": {"alpha": {"reward": scorer}},
        "evaluate": {"rewards": [judge]},
        "rewards": {"models": models or {}},
    }
    return parse_config(config_tree(tmp_path, [{"kind": "world", "pairs": 2}], **branches), "config")


HTTP = {"kind": "http", "url": "http://host/a", "version": "1"}


@pytest.mark.parametrize(
    ("judge", "scorer", "models"),
    [
        ("pickscore", "pickscore", {}),
        ("mine", "pickscore", {"mine": {"kind": "pickscore", "weights": "/elsewhere"}}),
        ("one", "two", {"one": {"kind": "hpsv2.1"}, "two": {"kind": "hpsv2.1", "antialias": False}}),
        ("one", "two", {"one": HTTP, "two": {**HTTP, "version": "2", "batch": 3}}),
        (
            "one",
            "two",
            {"one": {"kind": "entry_point", "entry_point": "x"}, "two": {"kind": "entry_point", "entry_point": "x"}},
        ),
        ("one", "theirs", {"one": {"kind": "entry_point", "entry_point": "theirs"}}),
        ("one", "clip", {"one": {"kind": "clip"}}),
    ],
)
def test_a_judge_cannot_hide_behind_another_name(tmp_path: Path, judge: str, scorer: str, models: Any) -> None:
    with pytest.raises(ConfigError, match=rf"evaluate.rewards\[0\] '{judge}' also labels or scores"):
        judged(tmp_path, judge, scorer, models)


@pytest.mark.parametrize(
    ("judge", "scorer", "models"),
    [
        ("hpsv2.1", "pickscore", {}),
        ("hpsv2.1", "hpsv2", {}),
        ("one", "clip", {"one": {"kind": "clip", "weights": "laion/other"}}),
        ("one", "two", {"one": HTTP, "two": {**HTTP, "url": "http://host/b"}}),
    ],
)
def test_other_judges_are_welcome(tmp_path: Path, judge: str, scorer: str, models: Any) -> None:
    assert judged(tmp_path, judge, scorer, models).evaluate.rewards == (judge,)


def test_a_panel_names_no_model_twice(tmp_path: Path) -> None:
    branches = {
        "score": {"panel": {"rewards": ["pickscore", "again"]}},
        "rewards": {"models": {"again": {"kind": "pickscore"}}},
    }
    with pytest.raises(ConfigError, match="names a reward twice"):
        parse_config(config_tree(tmp_path, [{"kind": "world", "pairs": 2}], **branches), "config")


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"pickscore": {"weightz": "x"}}, "unknown key 'rewards.models.pickscore.weightz': did you mean 'weights'"),
        ({"mine": {"weights": "x"}}, "models.mine needs a kind: one of pickscore, hpsv2, "),
        ({"clip": HTTP}, "models.clip: a http reward needs another name"),
        ({"world/mine": {"kind": "clip"}}, "names that begin with world/ are the embedded world's"),
        ({"j": {"kind": "htp"}}, "rewards.models.j: Input tag 'htp'"),
        ({"j": {**HTTP, "retry": 3}}, "unknown key 'rewards.models.j.retry': did you mean 'retries'"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, models: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(config_tree(tmp_path, [{"kind": "world", "pairs": 2}], rewards={"models": models}), "config")
    assert words in str(caught.value)


def _tower(width: int, layers: int, **more: int) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, **more}


def _clip(width: int, layers: int, heads: int, text: int, depth: int, projection: int) -> CLIPConfig:
    vision = _tower(width, layers, num_attention_heads=heads, patch_size=14, image_size=224, projection_dim=projection)
    words = _tower(text, depth, num_attention_heads=text // 64, projection_dim=projection)
    return CLIPConfig(projection_dim=projection, vision_config=vision, text_config=words)


def _counted(*calls: tuple[Any, dict[str, torch.Tensor]]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for module, given in calls:
            module(**given)
    return float(counter.get_total_flops())


def _parameters(*modules: torch.nn.Module) -> float:
    return float(sum(parameter.numel() for module in modules for parameter in module.parameters()))


def test_resources_are_those_of_the_published_architectures() -> None:
    huge, large = _clip(1280, 32, 16, 1024, 24, 1024), _clip(1024, 24, 16, 768, 12, 768)
    with torch.device("meta"):
        seen = {"pixel_values": torch.zeros(1, 3, 224, 224)}
        read = {"input_ids": torch.zeros(1, 77, dtype=torch.int64)}
        models = {"pickscore": CLIPModel(huge), "clip": CLIPModel(large)}
        tower, head = CLIPVisionModelWithProjection(large.vision_config), LinearHead(768)
        blip_vision = BlipVisionModel(BlipVisionConfig(**_tower(1024, 24, num_attention_heads=16, image_size=224)))
        blip_text = BlipTextModel(BlipTextConfig(encoder_hidden_size=1024, num_attention_heads=12), False)
        words = {"input_ids": torch.zeros(1, 35, dtype=torch.int64), "encoder_hidden_states": torch.zeros(1, 197, 1024)}
        expected = {
            name: (_parameters(model), _counted((model.vision_model, seen), (model.text_model, read)))
            for name, model in models.items()
        }
        expected["aesthetic"] = (_parameters(tower, head), _counted((tower, seen)))
        blip = (_parameters(blip_vision, blip_text, head), _counted((blip_vision, seen), (blip_text, words)))
    expected |= {"hpsv2": expected["pickscore"], "hpsv2.1": expected["pickscore"], "imagereward": blip}
    assert expected.keys() == PUBLISHED.keys()
    for name, (parameters, flops) in expected.items():
        resources = reward_resources(name, RewardsConfig())
        assert resources is not None
        assert resources.memory == pytest.approx(4 * parameters, rel=0.01), name
        assert resources.flops == pytest.approx(flops, rel=0.01), name
    half = reward_resources("clip", RewardsConfig(precision="bf16"))
    assert half is not None
    assert half.memory == pytest.approx(2 * expected["clip"][0], rel=0.01)
    assert reward_resources("theirs", RewardsConfig()) is None


def test_the_documented_configs_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)]
    found = [yaml.safe_load(block)["rewards"] for block in blocks if block.strip().startswith("rewards:")]
    assert len(found) == 2
    for rewards in found:
        parse_config(config_tree(tmp_path, [{"kind": "world", "pairs": 2}], rewards=rewards), "docs")
