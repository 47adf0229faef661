"""The work of each stage, from the config and the number of pairs. docs/plan.md says what is counted how."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from prefopt.config import RunConfig
from prefopt.config.base import VALUE_BYTES, Size
from prefopt.config.evaluate import SamplerConfig
from prefopt.config.prompts import HeldoutPrompts
from prefopt.features import FEATURE_VALUES, feature_resources
from prefopt.planning.amounts import Item, StageWork, Write, some
from prefopt.planning.counting import Counts
from prefopt.planning.flops import REWARD_FLOPS, ForwardCosts
from prefopt.planning.training_work import REFERENCE_BYTES, image_items, train_work
from prefopt.prompts import drawn_prompts, read_prompts
from prefopt.rewards import reward_resources
from prefopt.stages.keys import planned_visits

DECODE_SECONDS, PIXEL_SECONDS = 5e-4, 1.2e-8
"""To fetch and decode an image: for each, and for each of its pixels."""
WORLD_REWARD_SECONDS = 2e-4
"""For one image and one of the embedded world's rewards, which measure pixels and are no networks."""
PNG_BYTES = 1.7
"""Per pixel of a generated image."""
CARD_VOTE_SECONDS = 7e-5
"""To count a vote in every way that the data card does."""
SHOWN_BYTES, LISTED_BYTES = 10_000, 400
"""Of an image on the data card, and of a line of its list."""
BYTES = {"pair": 200, "vote": 80, "image": 60, "label": 110, "score": 120, "reward": 50, "visit": 120}
"""Of one row of a table, as parquet: measured on the demo, with prompts of the length of Pick-a-Pic's."""
STARTUP = {"ingest": 3.0, "inject": 0.3, "score": 20.0, "card": 6.0, "train": 20.0, "evaluate": 15.0}
"""Seconds for imports and processes, measured with the demo on two cores."""
POOL_STARTUP = 9.0
"""Seconds for each further set of actors that load models."""
_FLOAT32 = VALUE_BYTES["fp32"]
_RUN_MODELS = 2
"""Base and tuned model."""


@dataclass(frozen=True)
class Inputs:
    """What all stages' work follows from."""

    config: RunConfig
    counts: Counts
    costs: ForwardCosts

    @property
    def visits(self) -> int:
        """How many visits training makes."""
        return planned_visits(self.config)

    @property
    def unet_forward(self) -> int:
        """FLOPs for one image."""
        return self.costs.mean_unet(self.config.score.sizes).total

    def mean(self, of: Callable[[Size], float]) -> float:
        """Over the images' sizes, as if each had as many."""
        return statistics.fmean(of(size) for size in self.config.score.sizes)

    @property
    def judged_share(self) -> float:
        """Share of the pairs that policy snapshots judge."""
        panel = self.config.score.panel
        return panel.snapshot_share if panel and panel.snapshots else 0.0

    @property
    def draws(self) -> float:
        """Draws under which each policy snapshot, and the reference once, judge pairs."""
        panel = self.config.score.panel
        return self.judged_share * self.counts.pairs * panel.snapshot_draws if panel else 0.0

    @property
    def inversion_forwards(self) -> int:
        """UNet forwards to invert one image; 0 where noise is sampled."""
        visits = self.config.score.visits
        return 0 if visits.inversion == "none" else visits.steps * (1 + visits.renoise_steps)


def all_work(config: RunConfig, counts: Counts, costs: ForwardCosts) -> dict[str, StageWork]:
    """The work of every stage by name, in order."""
    inputs = Inputs(config, counts, costs)
    stages: tuple[Callable[[Inputs], StageWork], ...] = (_ingest, _inject, _score, _card, _train, _evaluate)
    return {work.stage: work for work in (stage(inputs) for stage in stages)}


def _ingest(inputs: Inputs) -> StageWork:
    counts, config = inputs.counts, inputs.config
    full = config.ingest.verify_images == "full"
    seconds = DECODE_SECONDS + PIXEL_SECONDS * inputs.mean(math.prod) * full
    tables = counts.pairs * BYTES["pair"] + counts.votes * BYTES["vote"] + counts.images * BYTES["image"]
    return StageWork(
        "ingest",
        some(
            Item("votes", counts.votes),
            Item("images decoded and checked" if full else "image headers checked", 2 * counts.votes, 0.0, "", seconds),
        ),
        [Write("tables of pairs, votes and images", tables, "run")],
        workers=config.cluster.workers,
        uses_model=False,
        fixed_seconds=STARTUP["ingest"],
    )


def _inject(inputs: Inputs) -> StageWork:
    counts, config = inputs.counts, inputs.config
    rewards = tuple(dict.fromkeys(flips.reward for flips in config.inject.flips if flips.kind == "gap"))
    return StageWork(
        "inject",
        some(Item("votes", counts.votes), *(_reward(config, name, counts.images) for name in rewards)),
        [
            Write("tables of labels and truth", counts.votes * BYTES["label"], "run"),
            *([Write("rewards", len(rewards) * counts.images * BYTES["reward"], "store")] if rewards else []),
        ],
        workers=config.cluster.workers,
        uses_model=bool(rewards),
        fixed_seconds=STARTUP["inject"] + POOL_STARTUP * bool(rewards),
    )


def _score(inputs: Inputs) -> StageWork:
    config, counts, costs, visits = inputs.config, inputs.counts, inputs.costs, inputs.visits
    gaps = {flips.reward for flips in config.inject.flips if flips.kind == "gap"}
    rewards = [name for name in config.score.reward_names() if name not in gaps]
    latents = expected_latents(inputs)
    cached, inverted = config.train.reference == "cached", visits * bool(inputs.inversion_forwards)
    references, latent = visits * cached, costs.mean_latent_bytes(config.score)
    policies = 1 + len(config.score.panel.snapshots) if config.score.panel else 0
    judged = policies * inputs.draws
    items = some(
        *(_reward(config, name, counts.images) for name in rewards),
        Item(
            "images through the VAE's encoder",
            latents,
            inputs.mean(costs.encode),
            cpu_seconds=DECODE_SECONDS + PIXEL_SECONDS * inputs.mean(math.prod),
        ),
        Item("UNet forwards to invert visits", 2 * inverted * inputs.inversion_forwards, inputs.unet_forward),
        Item("UNet forwards for reference errors", 2 * references, inputs.unet_forward, config.train.precision),
        Item("UNet forwards for policy snapshots", 2 * judged, inputs.unet_forward, config.train.precision),
        Item("prompts through the text encoders", inverted + references + judged, costs.prompt),
    )
    writes = [
        Write("rewards", len(rewards) * counts.images * BYTES["reward"], "store"),
        Write("latents", latents * latent, "store"),
        Write("inverted latents", 2 * inverted * latent, "store"),
        Write("reference errors", references * REFERENCE_BYTES, "store"),
        Write("errors of policy snapshots", judged * REFERENCE_BYTES, "store"),
        Write("tables of scores and visits", counts.pairs * BYTES["score"] + visits * BYTES["visit"], "run"),
    ]
    return StageWork(
        "score",
        items,
        [write for write in writes if write.nbytes],
        workers=config.cluster.workers,
        uses_model=True,
        fixed_seconds=STARTUP["score"] + POOL_STARTUP * (bool(inverted) + cached + bool(judged)),
    )


def expected_latents(inputs: Inputs) -> float:
    """Latents that training, the held-out accuracy and policy snapshots need: every mirrored form of an image that is
    visited, every held-out image once, and every training image that a snapshot judges, as it is.

    Visits take each example once before any a second time. An image that is visited k times and mirrored with
    probability f each time shows 2 - f^k - (1 - f)^k forms on average.
    """
    counts, visits, flip = inputs.counts, inputs.visits, inputs.config.score.visits.flip
    per_pair = counts.images / max(counts.pairs, 1)
    in_training = counts.by_split["train"] * per_pair
    examples = _examples(inputs)
    times_used = 2.0 / max(per_pair, 1e-9)
    seen: float = in_training * (1.0 - (1.0 - min(1.0, visits / max(examples, 1e-9))) ** times_used)
    each = 2.0 * visits / max(seen, 1e-9)
    forms: float = 2.0 - flip**each - (1.0 - flip) ** each if 0.0 < flip < 1.0 else 1.0
    held_out = (counts.by_split["validation"] + counts.by_split["test"]) * per_pair
    never_plain: float = in_training - seen * (1.0 - flip**each)
    return seen * max(1.0, forms) + inputs.judged_share * never_plain + held_out


def _examples(inputs: Inputs) -> float:
    each_vote = inputs.config.labels.rule == "each_vote"
    return inputs.counts.train_examples if each_vote else inputs.counts.by_split["train"]


def _card(inputs: Inputs) -> StageWork:
    counts, config = inputs.counts, inputs.config
    shown = 2 * min(config.card.pairs, counts.pairs)
    seconds = DECODE_SECONDS + PIXEL_SECONDS * config.score.resolution**2
    return StageWork(
        "card",
        some(
            Item("votes counted", counts.votes, cpu_seconds=CARD_VOTE_SECONDS),
            Item("images shown at most", shown, cpu_seconds=seconds),
        ),
        [Write("page and tables at most", shown * SHOWN_BYTES + config.card.listed * LISTED_BYTES, "run")],
        workers=1,
        uses_model=False,
        fixed_seconds=STARTUP["card"],
    )


def _train(inputs: Inputs) -> StageWork:
    items, writes = train_work(inputs.config, inputs.costs, visits=inputs.visits)
    train = inputs.config.train
    return StageWork("train", items, writes, train.workers, uses_model=True, fixed_seconds=STARTUP["train"])


def _evaluate(inputs: Inputs) -> StageWork:
    config, counts, costs = inputs.config, inputs.counts, inputs.costs
    evaluate, sampler = config.evaluate, config.evaluate.sampler
    held_out = counts.by_split[evaluate.split]
    drawn = (_RUN_MODELS + len(evaluate.models)) * _prompts(config, counts) * evaluate.samples_per_prompt
    compared = min(evaluate.accuracy.pairs, held_out) * evaluate.accuracy.draws
    items = some(
        *image_items(costs, sampler, drawn),
        *(_reward(config, name, drawn) for name in evaluate.rewards),
        *_features(inputs, drawn),
        Item("UNet forwards for the held-out accuracy", 2 * _RUN_MODELS * compared, inputs.unet_forward),
    )
    picture = PNG_BYTES * _pixels(sampler)
    row = _FLOAT32 * FEATURE_VALUES[evaluate.features.kind] if evaluate.features else 0
    return StageWork(
        "evaluate",
        items,
        [
            Write("images and scores", drawn * (picture + BYTES["reward"] * len(evaluate.rewards)), "run"),
            *([Write("image features", drawn * row, "run")] if row else []),
            Write("images for later evaluations", drawn * picture, "store"),
        ],
        workers=config.cluster.workers,
        uses_model=True,
        fixed_seconds=STARTUP["evaluate"],
    )


def _features(inputs: Inputs, images: float) -> tuple[Item, ...]:
    """Images through the network that diversity is measured by."""
    config, features = inputs.config, inputs.config.evaluate.features
    if features is None:
        return ()
    if features.kind == "vae":
        flops, precision = float(inputs.costs.encode(Size.square(config.evaluate.sampler.resolution))), "fp32"
    else:
        flops, precision = feature_resources(config).flops, config.rewards.precision
    return (Item(f"images through the features {features.kind}", images, flops, precision, DECODE_SECONDS),)


def _prompts(config: RunConfig, counts: Counts) -> float:
    """How many prompts an evaluation draws. InputError if a prompt set cannot be read."""
    sets = config.evaluate.prompt_sets
    files = [read_prompts(chosen, config.ingest.limits) for chosen in sets if not isinstance(chosen, HeldoutPrompts)]
    split = config.evaluate.split
    known = counts.by_split[split] if counts.prompts is None else counts.prompts.get(split, 0)
    heldout = [min(chosen.most or known, known) for chosen in sets if isinstance(chosen, HeldoutPrompts)]
    return len(drawn_prompts(files)) + max(heldout, default=0)


def _pixels(sampler: SamplerConfig) -> int:
    return sampler.resolution**2


def _reward(config: RunConfig, name: str, images: float) -> Item:
    if name.startswith("world/"):
        return Item(f"images scored by {name}", images, cpu_seconds=WORLD_REWARD_SECONDS)
    resources = reward_resources(name, config.rewards)
    flops = REWARD_FLOPS if resources is None else resources.flops
    precision = config.rewards.precision
    return Item(f"images scored by {name}", images, flops, precision=precision, cpu_seconds=DECODE_SECONDS)
