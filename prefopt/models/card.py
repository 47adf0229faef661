"""The model card of a tuned model: what it is, what it was made from, and how to load it."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from prefopt import __version__
from prefopt.config import RunConfig
from prefopt.models.families import SDXL, ModelFamily
from prefopt.models.identity import is_hub_id
from prefopt.models.sources import TrainingWeights, WeightsSource
from prefopt.objectives.titles import TITLES

CARD = "README.md"
_FIGURES = {
    "loss": "loss",
    "accuracy": "implicit accuracy on training pairs",
    "error_w": "denoising error of winners",
    "error_l": "denoising error of losers",
    "grad_norm": "gradient norm",
}
_LAST_PART = 10
"""Figures are means over the last tenth of the steps."""


def model_card(
    config: RunConfig,
    family: ModelFamily,
    weights: TrainingWeights,
    data_keys: Mapping[str, str],
    steps: Sequence[Mapping[str, Any]],
) -> str:
    """A README.md as the Hugging Face hub reads it: the same run gives the same bytes, without times and paths.

    `data_keys` are the keys of the stages that made the data, `steps` the lines of steps.jsonl.
    """
    lora = config.train.method == "lora"
    method = f"LoRA, rank {config.train.lora.rank}" if lora else "full fine-tuning"
    title = TITLES[config.train.objective.name][0]
    front = yaml.safe_dump(_front_matter(config, family, weights), sort_keys=False, allow_unicode=False)
    sections = [
        f"---\n{front}---",
        f"# {family.name} tuned on human preferences with {title}",
        f"The UNet of {weights.init.name} was trained on pairs of images of which people preferred one ({method})"
        f" by prefopt {__version__}.",
        *([_belonging(weights)] if lora else []),
        "## Loading it",
        _loading(family, weights, lora),
        "## Lineage",
        _table(("part", "name", "digest"), _lineage(config, weights)),
        _table(("data stage", "key"), [(name, key[:12]) for name, key in data_keys.items()]),
        "## Training",
        _settings(config),
        _table(
            ("at the end of training", "mean over the last tenth of the steps"),
            [(title, f"{value:.4g}") for title, value in _final(steps).items()],
        ),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(config: RunConfig, family: ModelFamily, weights: TrainingWeights) -> dict[str, Any]:
    lora = config.train.method == "lora"
    kind = "stable-diffusion-xl" if family is SDXL else "stable-diffusion"
    objective = config.train.objective.name.replace("_", "-")
    return {
        "base_model": weights.init.below.name,
        "base_model_relation": "adapter" if lora else "finetune",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": [kind, *(["lora"] if lora else []), "preference-optimization", objective, "prefopt"],
    }


def _belonging(weights: TrainingWeights) -> str:
    below = weights.init.below
    sentence = f"The LoRA weights belong onto {below.name} (digest {below.digest[:12]})"
    if below.digest == weights.base.digest:
        return f"{sentence}."
    return f"{sentence}, where training started, and not onto its base model {weights.base.name}."


def _loading(family: ModelFamily, weights: TrainingWeights, lora: bool) -> str:
    pipeline, below = family.pipeline.__name__, weights.init.below
    place = below.name if is_hub_id(below.place) else f"path/to/{below.name}"
    lines = [
        f"from diffusers import {pipeline}",
        f'pipeline = {pipeline}.from_pretrained("{place if lora else "path/to/this/directory"}")',
        *(['pipeline.load_lora_weights("path/to/this/directory")'] if lora else []),
        'image = pipeline("a prompt").images[0]',
    ]
    return "\n".join(["```python", *lines, "```"])


def _lineage(config: RunConfig, weights: TrainingWeights) -> list[tuple[str, str, str]]:
    rows = [
        _described("base model", weights.base),
        _described("start of the policy", weights.init),
        _described("reference", weights.reference),
    ]
    if config.model.vae is not None:
        vae = config.model.vae
        rows.append(("VAE in place of the base model's", vae if is_hub_id(vae) else vae.rstrip("/").split("/")[-1], ""))
    return rows


def _described(part: str, source: WeightsSource) -> tuple[str, str, str]:
    name = source.name if source.onto is None else f"{source.name} (LoRA on {source.onto.name})"
    return part, name, source.digest[:12]


def _settings(config: RunConfig) -> str:
    train = config.train
    settings: dict[str, Any] = {
        "objective": train.objective.model_dump(mode="json"),
        "method": train.method,
        **({"lora": train.lora.model_dump(mode="json")} if train.method == "lora" else {}),
        "optimizer": train.optimizer.model_dump(mode="json"),
        "steps": train.steps,
        "pairs per step": train.global_batch,
        "precision": train.precision,
        "reference errors": train.reference,
        "noise": config.score.visits.inversion if config.score.visits.inversion != "none" else "sampled",
        "sizes": " ".join(map(str, config.score.sizes)),
        "seed": config.seed,
    }
    return f"```yaml\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=False)}```"


def _final(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    last = [line for line in steps[-max(1, len(steps) // _LAST_PART) :] if not line["skipped"]]
    found: dict[str, float] = {}
    for key, title in _FIGURES.items():
        values = [line[key] for line in last if line.get(key) is not None]
        if values:
            found[title] = sum(values) / len(values)
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
