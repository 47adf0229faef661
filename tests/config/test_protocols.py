"""Published protocols, by value, and how they meet what a config sets itself."""

from pathlib import Path
from typing import Any

import pytest

from prefopt.config import RunConfig, dump_config, load_config, parse_config
from prefopt.config.evaluate import EvaluateConfig, SamplerConfig
from prefopt.config.protocols import PROTOCOLS, departures
from prefopt.data.ids import canonical_hash
from prefopt.errors import ConfigError
from prefopt.stages.keys import STAGES, Outside
from tests.kit.data import config_tree

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


def config(**evaluate: Any) -> RunConfig:
    tree = config_tree(Path("place"), [{"kind": "world"}])
    tree["evaluate"] = {"rewards": ["world/true"], **evaluate}
    return parse_config(tree, "my.yaml")


@pytest.mark.parametrize(
    ("name", "sampler", "samples", "seed", "ties", "average"),
    [
        ("diffusion_dpo_sd15", ("own", 50, 7.5, 512), 1, 0, "half", "mean"),
        ("diffusion_dpo_sdxl", ("own", 50, 5.0, 1024), 1, 0, "half", "mean"),
        ("diffusion_kto_sd15", ("ddim", 50, 7.0, 512), 1, 0, "half", "mean"),
        ("alpha_dpo_sdxl", ("ddim", 50, 5.0, 1024), 1, 42, "half", "mean"),
        ("spo_sd15", ("ddim", 20, 5.0, 512), 1, 0, "half", "mean"),
        ("spo_sdxl", ("ddim", 20, 5.0, 1024), 1, 0, "half", "mean"),
        ("npo_sd15", ("dpmsolver++", 25, 7.5, 512), 1, 0, "nobody", "mean"),
        ("npo_sdxl", ("dpmsolver++", 25, 5.0, 1024), 1, 0, "nobody", "mean"),
        ("smpo_sd15", ("ddim", 50, 7.5, 512), 1, 0, "half", "median"),
        ("smpo_sdxl", ("ddim", 50, 7.5, 1024), 1, 0, "half", "median"),
        ("rethinking_dpo_sd15", ("ddim", 50, 7.5, 512), 5, 0, "nobody", "mean"),
        ("rethinking_dpo_sdxl", ("ddim", 50, 7.5, 1024), 5, 0, "nobody", "mean"),
    ],
)
def test_protocols_by_value(
    name: str, sampler: tuple[Any, ...], samples: int, seed: int, ties: str, average: str
) -> None:
    found = config(protocol=name).evaluate
    assert tuple(found.sampler.model_dump().values()) == sampler
    assert (found.samples_per_prompt, found.seed, found.ties, found.average) == (samples, seed, ties, average)
    assert not list(departures(name, found.model_dump()))


def test_no_other_protocol_and_every_one_is_documented() -> None:
    assert len(PROTOCOLS) == 12
    documented = DOCS.read_text()
    for name, protocol in PROTOCOLS.items():
        assert f"`{name}`" in documented
        EvaluateConfig(rewards=("r",), **protocol.defaults)


def test_what_a_source_does_not_state_is_named() -> None:
    assert PROTOCOLS["alpha_dpo_sdxl"].unstated == ("samples_per_prompt", "ties")
    assert PROTOCOLS["smpo_sd15"].unstated[:3] == ("sampler.scheduler", "sampler.steps", "sampler.guidance")


def test_the_configs_own_keys_win(tmp_path: Path) -> None:
    found = config(protocol="npo_sd15", sampler={"steps": 50}, ties="half").evaluate
    assert found.sampler == SamplerConfig(scheduler="dpmsolver++", steps=50, guidance=7.5, resolution=512)
    assert found.ties == "half"
    assert list(departures("npo_sd15", found.model_dump())) == [
        ("ties", "half", "nobody"),
        ("sampler.steps", 50, 25),
    ]
    (tmp_path / "my.yaml").write_text(dump_config(config(protocol="npo_sd15")))
    overridden = load_config(tmp_path / "my.yaml", ["evaluate.sampler.guidance=3"]).evaluate
    assert overridden.sampler == SamplerConfig(scheduler="dpmsolver++", steps=25, guidance=3.0, resolution=512)
    made = EvaluateConfig(rewards=("r",), protocol="npo_sd15", sampler=SamplerConfig(steps=9))
    assert (made.sampler.steps, made.sampler.guidance) == (9, 7.5)
    assert made.sampler.scheduler == "dpmsolver++"


def test_a_dumped_config_with_a_protocol_is_the_same(tmp_path: Path) -> None:
    given = config(protocol="smpo_sdxl", sampler={"steps": 50})
    (tmp_path / "again.yaml").write_text(dump_config(given))
    assert load_config(tmp_path / "again.yaml") == given


def test_the_resolved_values_enter_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(found: RunConfig) -> str:
        return canonical_hash(STAGES["evaluate"].slice(found, Outside((), [])))

    first = key(config(protocol="npo_sd15"))
    assert first == key(config(protocol="npo_sd15", sampler={"steps": 25}))
    assert first != key(config(protocol="npo_sd15", sampler={"steps": 26}))
    changed = PROTOCOLS["npo_sdxl"]
    monkeypatch.setattr("prefopt.config.protocols.PROTOCOLS", {**PROTOCOLS, "npo_sd15": changed})
    assert first != key(config(protocol="npo_sd15"))


@pytest.mark.parametrize(("name", "nearest"), [("npo_sd1.5", "npo_sd15"), ("kto", "diffusion_kto_sd15")])
def test_an_unknown_protocol_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(protocol=name)
    assert f"my.yaml: evaluate.protocol: unknown protocol: did you mean {nearest!r}?" in str(caught.value)
    assert f"(given: {name!r})" in str(caught.value)


@pytest.mark.parametrize(("branch", "field"), [({"sampler": 3}, "evaluate.sampler"), ({"protocol": 3}, "protocol")])
def test_a_value_of_the_wrong_kind_is_refused(branch: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        config(**{"protocol": "npo_sd15", **branch})
