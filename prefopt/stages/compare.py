"""compare: any models on any prompts, without a training run; metrics.json, report.html and report.md."""

from prefopt.config.evaluate import BASE
from prefopt.distributed.evaluate import ComparedModel
from prefopt.models.sources import base_weights, compared_weights
from prefopt.prompts import read_prompts
from prefopt.stages.base import StageContext, StageResult
from prefopt.stages.compared import draw, finish


def run(context: StageContext) -> StageResult:
    """Write prompts-, images- and scores-*.parquet, metrics.json, report.html and report.md.

    Raises InputError if a prompt set or a model cannot be read.
    """
    config = context.config
    sets = [read_prompts(chosen, config.ingest.limits) for chosen in config.prompt_sets]
    base = ComparedModel.onto(BASE, base_weights(config.model), config.model)
    others = [ComparedModel.of(name, found, config.model) for name, found in compared_weights(config).items()]
    drawn = draw(context, sets, [base, *others], [])
    weights = [(model.name, model.weights.name, model.weights.digest) for model in (base, *others)]
    return finish(drawn, drawn.results(), [None] * len(sets), weights=weights)
