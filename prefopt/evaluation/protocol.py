"""Under what conditions models were compared: what must agree before figures of two evaluations are ranked together."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from prefopt.config import RunConfig
from prefopt.config.evaluate import EvaluateConfig
from prefopt.data.ids import canonical_hash
from prefopt.evaluation.lineage import shown_config
from prefopt.evaluation.wording import training_rewards
from prefopt.prompts import PromptList, drawn_prompts

METHOD, SEED, TRAINED_ON_JUDGE = "method", "seed", "headline_in_training"
"""In evaluate's summary: what is the same for runs that differ in seeds alone; `seed` of the config; 1 if the headline
reward also labelled or scored the training pairs, else 0."""


class Protocol(BaseModel):
    """The conditions of an evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    """The digest of the base model and its VAE."""
    prompts: str
    """A digest of the different prompts that were drawn, whatever their order and their sets."""
    prompt_sets: dict[str, int]
    """Prompts of every set, for readers: the digest does not depend on it."""
    sampler: dict[str, Any]
    seed: int
    samples: int
    """Images per prompt."""
    headline: str
    """The reward that models are ranked by."""
    rewards: dict[str, str]
    """Versions of all rewards."""
    ties: str

    @property
    def digest(self) -> str:
        """Equal where figures may be ranked together."""
        return canonical_hash(self.model_dump(mode="json", exclude={"prompt_sets"}))


def protocol_of(config: EvaluateConfig, base: str, sets: Sequence[PromptList], rewards: Mapping[str, str]) -> Protocol:
    """The protocol of an evaluation. `base` is the base pipeline's digest, `rewards` are versions by name."""
    return Protocol(
        base=base,
        prompts=canonical_hash(sorted(drawn_prompts(sets))),
        prompt_sets={chosen.name: len(chosen.prompts) for chosen in sets},
        sampler=config.sampler.model_dump(mode="json"),
        seed=config.seed,
        samples=config.samples_per_prompt,
        headline=config.rewards[0],
        rewards=dict(rewards),
        ties=config.ties,
    )


def protocol_record(protocol: Protocol, level: float) -> dict[str, Any]:
    """The entry `protocol` of metrics.json. `level` is that of all intervals; the digest does not depend on it."""
    return {"digest": protocol.digest, "level": level, **protocol.model_dump(mode="json")}


def method_summary(config: RunConfig, inputs: Mapping[str, str]) -> dict[str, int | float | str | None]:
    """What evaluate's manifest tells of the run that tuned a model. `inputs` are the key of its data and the digests of
    the weights it started from."""
    tree = yaml.safe_load(shown_config(config))
    negative = tree.pop("evaluate")["negative"]
    tree.pop("card")
    return {
        METHOD: canonical_hash({"config": _without_seeds(tree), "negative": negative, "inputs": dict(inputs)}),
        SEED: config.seed,
        TRAINED_ON_JUDGE: int(config.evaluate.rewards[0] in training_rewards(config)),
    }


def _without_seeds(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_without_seeds(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kept = {name: value for name, value in tree.items() if name != "seed" and not name.endswith("_seed")}
    return {name: _without_seeds(value) for name, value in kept.items()}
