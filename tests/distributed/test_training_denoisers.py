"""How base, start and reference meet in training, and recomputed activations."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from prefopt.config.root import ModelConfig
from prefopt.errors import ConfigError
from prefopt.models.families import predict
from prefopt.models.identity import model_digest
from prefopt.models.sources import LORA_BASE
from prefopt.stages.train import prepare
from tests.kit.models import TINY, tiny_pipeline, tiny_unet
from tests.kit.training import training_config, training_context
from tests.kit.weights import LORA, finished_run, lora_directory
from tests.kit.workers import WorkerGroup, WorkerGroups

ONLINE = {"name": "adaptive_dpo", "beta": 2000, "u": {"warmup": 0, "ema": {"slow": 0.9, "fast": 0.2, "ramp": False}}}
SHARDED = {"stage3_param_persistence_threshold": 0}


class Lab:
    """Weights to start from, by name, and warm workers."""

    def __init__(self, root: Path, workers: WorkerGroups) -> None:
        self.root, self._workers = root, workers
        self.places = {"base": tiny_pipeline(root / "base"), "other": tiny_pipeline(root / "other", seed=5)}
        self.places["lora"] = lora_directory(root / "lora", tiny_unet())
        upon = lora_directory(root / "upon" / "model", tiny_unet(), seed=2).parent
        self.places["upon"] = finished_run(upon, {LORA_BASE: model_digest(ModelConfig(path=str(self.places["other"])))})

    def group(self, zero: int = 0) -> WorkerGroup:
        return self._workers.get(1, zero)

    def job(self, place: Path, start: str | None, compared: str | None, **train: Any) -> Any:
        named = {"init_from": start, "reference_from": compared}
        options = {field: str(self.places[name]) for field, name in named.items() if name}
        defaults = {"lora": LORA.model_dump(), "objective": ONLINE, "optimizer": {"lr": 1e-3}}
        config = training_config(self.places["base"], self.root / "store", **{**defaults, **options, **train})
        return prepare(training_context(place, config))[0]

    @torch.no_grad()
    def expected(self, model: str, lora: str | None, batch: Any) -> torch.Tensor:
        """What plain diffusers predicts."""
        pipeline = DiffusionPipeline.from_pretrained(str(self.places[model]))
        if lora:
            (weights,) = self.places[lora].rglob("pytorch_lora_weights.safetensors")
            pipeline.load_lora_weights(str(weights.parent))
        return predict(pipeline.unet.eval(), batch.xt, batch.t, batch.conditioning)


@pytest.fixture(scope="module")
def lab(worker_groups: WorkerGroups, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("denoisers"), worker_groups)


AVERAGES = {"policy", "slow", "fast"}
CASES = [
    # method, init_from, reference_from; what the policy and the reference are; adapters, whether a UNet stands apart
    ("lora", None, None, ("base", None), ("base", None), AVERAGES, False),
    ("lora", "other", None, ("other", None), ("base", None), AVERAGES, True),
    ("lora", "other", "other", ("other", None), ("other", None), AVERAGES, False),
    ("lora", "lora", None, ("base", "lora"), ("base", None), AVERAGES, False),
    ("lora", "lora", "lora", ("base", "lora"), ("base", "lora"), {*AVERAGES, "reference"}, False),
    ("lora", "other", "lora", ("other", None), ("base", "lora"), AVERAGES, True),
    ("lora", "other", "upon", ("other", None), ("other", "upon"), {*AVERAGES, "reference"}, False),
    ("lora", None, "other", ("base", None), ("other", None), AVERAGES, True),
    ("full", "lora", "lora", ("base", "lora"), ("base", "lora"), set(), False),
    ("full", "other", None, ("other", None), ("base", None), set(), False),
    ("full", "lora", "other", ("base", "lora"), ("other", None), set(), False),
]


@pytest.mark.parametrize(("method", "init", "reference", "policy", "known", "adapters", "apart"), CASES)
def test_policy_and_reference_are_what_the_config_names(
    lab: Lab,
    tmp_path: Path,
    method: str,
    init: str | None,
    reference: str | None,
    policy: tuple[str, str | None],
    known: tuple[str, str | None],
    adapters: set[str],
    apart: bool,
) -> None:
    seen = lab.group().predictions(lab.job(tmp_path, init, reference, method=method), steps=2)
    start, *_, end = seen["seen"]
    begins, stays = (lab.expected(*source, seen["batch"]) for source in (policy, known))
    for who in ("policy", "slow", "fast"):
        assert torch.allclose(start[who], begins, atol=1e-5)
    for after in (start, end):
        assert torch.allclose(after["reference"], stays, atol=1e-5)
    assert float((end["policy"] - begins).abs().max()) > 1e-4
    assert not torch.equal(end["slow"], end["fast"])
    assert (seen["adapters"], seen["apart"]) == (adapters, apart)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_with_cached_errors_there_is_no_reference(lab: Lab, tmp_path: Path, method: str) -> None:
    job = lab.job(tmp_path, "other", None, method=method, reference="cached")
    seen = lab.group().predictions(job, steps=1)
    assert [after["reference"] for after in seen["seen"]] == ["there is no reference in this run"] * 2
    assert not seen["apart"]


def test_another_kind_of_adapter_to_start_from_is_a_config_error(lab: Lab, tmp_path: Path) -> None:
    job = lab.job(tmp_path, "lora", None, method="lora", lora={"rank": 8, "alpha": 8.0})
    with pytest.raises(ConfigError, match=r"train\.lora \(rank 8, alpha 8, .* not what train\.init_from was"):
        lab.group().predictions(job)


RECOMPUTED = [("full", 1), ("lora", 2), ("full", 3)]


@pytest.mark.parametrize(
    ("method", "zero"),
    [
        ("lora", 0),
        ("full", 0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in RECOMPUTED),
        *(
            pytest.param(method, zero, marks=[pytest.mark.slow, pytest.mark.matrix])
            for method in ("lora", "full")
            for zero in (1, 2, 3)
            if (method, zero) not in RECOMPUTED
        ),
    ],
)
def test_recomputed_activations_are_not_kept_and_give_the_same_gradients(
    lab: Lab, tmp_path: Path, method: str, zero: int
) -> None:
    kept, recomputed = (
        lab.group(zero).gradients(
            replace(
                lab.job(
                    tmp_path / str(on),
                    "lora" if method == "lora" else None,
                    None,
                    method=method,
                    zero=zero,
                    micro_batch=8,
                    gradient_checkpointing=on,
                ),
                zero_options=SHARDED if zero == 3 else {},
            )
        )
        for on in (False, True)
    )
    assert recomputed["kept"] < 0.5 * kept["kept"]
    assert recomputed["loss"] == pytest.approx(kept["loss"], abs=1e-6)
    assert set(recomputed["gradients"]) == set(kept["gradients"])
    assert len(kept["gradients"]) > 10
    for name, gradient in kept["gradients"].items():
        assert torch.allclose(recomputed["gradients"][name], gradient, rtol=0, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in kept["gradients"].values()) > 1e-3


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", list(TINY))
def test_each_family_takes_two_steps(lab: Lab, tmp_path: Path, family: str, method: str) -> None:
    model = TINY[family](tmp_path / "model")
    config = training_config(model, tmp_path / "store", method=method, steps=2, objective=ONLINE)
    job, _ = prepare(training_context(tmp_path / "run", config))
    seen = lab.group().predictions(job, steps=2)
    assert (seen["batch"].conditioning.added is None) == (family == "sd15")
    first, _, last = seen["seen"]
    assert torch.allclose(first["policy"], first["reference"], atol=1e-5)
    assert not torch.allclose(last["policy"], last["reference"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_policy_trains_alike(lab: Lab, tmp_path: Path) -> None:
    """With LoRA: which adapter acts is looked at anew in every call."""
    plain, compiled = (
        lab.group().predictions(lab.job(tmp_path / str(on), None, None, method="lora", compile=on), steps=1)["seen"][-1]
        for on in (False, True)
    )
    for who in ("policy", "slow", "fast", "reference"):
        assert torch.allclose(plain[who], compiled[who], atol=1e-3)
    assert not torch.equal(plain["policy"], compiled["policy"])
