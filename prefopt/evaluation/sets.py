"""Where the images of each prompt set lie among all images, and how the set's comparisons came out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefopt.config.evaluate import EvaluateConfig
from prefopt.evaluation.results import Comparison, Scores, compare
from prefopt.evaluation.statistics import Floats
from prefopt.prompts import PromptList


@dataclass(frozen=True)
class DrawnSet:
    """A prompt set, and the rows of its images."""

    prompts: PromptList
    rows: NDArray[np.intp]
    """[prompts, samples]: the image of each sample of each prompt, in the set's own order."""

    def scores(self, scores: Scores) -> dict[str, dict[str, Floats]]:
        """The set's scores, [prompts x samples]."""
        flat = self.rows.ravel()
        return {reward: {model: found[flat] for model, found in models.items()} for reward, models in scores.items()}

    def names(self, names: Sequence[str]) -> list[str]:
        """What the set's images are called, from the names of all images."""
        numbers: list[int] = self.rows.ravel().tolist()
        return [names[row] for row in numbers]


@dataclass(frozen=True)
class SetFigures:
    """What was measured on one prompt set."""

    prompts: PromptList
    models: dict[str, list[Comparison]]
    """Of every model with the base, in the order of evaluate.rewards."""
    in_training: int | None = None
    """Prompts that the training split holds too; None for held-out prompts, which it cannot hold."""


def drawn_sets(sets: Sequence[PromptList], drawn: Sequence[str], samples: int) -> list[DrawnSet]:
    """Sets and their images, which are stored prompt by prompt in the order of `drawn`, `samples` of each."""
    place = {prompt: number for number, prompt in enumerate(drawn)}
    found = []
    for prompts in sets:
        first = np.array([place[row.prompt] for row in prompts.prompts], dtype=np.intp) * samples
        found.append(DrawnSet(prompts, first[:, None] + np.arange(samples)))
    return found


def set_figures(
    config: EvaluateConfig,
    scores: Scores,
    names: Sequence[str],
    drawn: DrawnSet,
    models: Sequence[str],
    in_training: int | None = None,
) -> SetFigures:
    """Compare models with the base on one set. `names` [n] are the prompt ids of all images."""
    mine, prompts = drawn.scores(scores), drawn.names(names)
    found = {model: compare(config, mine, prompts, model) for model in models}
    return SetFigures(drawn.prompts, found, in_training)
