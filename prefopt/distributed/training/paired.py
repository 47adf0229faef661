"""Now and then while training: images of a few fixed prompts from the policy and from its start, judged by a reward."""

import math
from collections.abc import Sequence

import numpy as np

from prefopt.distributed.training.engine import PolicyEngine
from prefopt.distributed.training.job import TrainingJob
from prefopt.distributed.training.turns import in_turns
from prefopt.errors import GuardError
from prefopt.evaluation.generation import ImageGenerator, Task
from prefopt.health.figures import Share, wilson
from prefopt.models.families import Pipeline
from prefopt.rewards import checked_scores, reward_spec

BATCH = 4
"""Images per batch: fixed, so that an image does not depend on the number of workers."""


class PairedDrawing:
    """Draws and judges the policy's images. All workers call `scores` together: each draws its share of batches."""

    def __init__(self, job: TrainingJob, engine: PolicyEngine, pipeline: Pipeline, prompts: Sequence[str]) -> None:
        """`pipeline` has all parts but the UNet, which is the policy's."""
        config = job.config.train.health.evaluation
        assert config is not None
        pipeline.unet = engine.module
        self._generator = ImageGenerator(
            pipeline, config.sampler, batch=BATCH, seed=job.config.seed, field="train.health.evaluation.sampler"
        )
        self._reward = reward_spec(config.reward, job.config).load()
        tasks: list[Task] = [(prompt, 0) for prompt in prompts]
        self._batches = [tasks[start : start + BATCH] for start in range(0, len(tasks), BATCH)]

    def scores(self) -> list[float]:
        """The reward of the image of every prompt, in order, the same on all workers; nan for one that is no image."""
        found = in_turns(len(self._batches), lambda number: self._score(self._batches[number]))
        return [score for part in found for score in part]

    def _score(self, tasks: Sequence[Task]) -> list[float]:
        prompts = [prompt for prompt, _ in tasks]
        try:
            images = self._generator.images(tasks)
        except GuardError:
            # The other workers go on drawing: what is broken is told by all of them together.
            return [math.nan] * len(tasks)
        names = [f"the policy's image {number}" for number in range(len(tasks))]
        return [float(score) for score in checked_scores(self._reward, images, prompts, names)]


def share_of_wins(now: Sequence[float], start: Sequence[float]) -> Share:
    """How often the policy's image beats its start's, ties as one half; one without a score loses.

    ValueError without images.
    """
    points = 0.5 * (np.nan_to_num(np.sign(np.subtract(now, start)), nan=-1.0) + 1.0)
    share = wilson(float(points.sum()), len(points))
    if share is None:
        raise ValueError("there are no images to compare")
    return share


def paired_figures(wins: Share) -> dict[str, float]:
    """What steps.jsonl holds of a paired evaluation, in the line of the step after which it was measured."""
    return {"paired_wins": wins.value, "paired_wins_low": wins.low, "paired_wins_high": wins.high}
