"""compare: any models on any prompts, without a training run; metrics.json, report.html and report.md."""

from prefopt.config.evaluate import BASE
from prefopt.data.manifest import Rows
from prefopt.distributed.evaluate import ComparedModel
from prefopt.evaluation.lineage import display_name
from prefopt.evaluation.report import ReportInputs
from prefopt.evaluation.results import Results
from prefopt.models.sources import base_weights, compared_weights
from prefopt.prompts import read_prompts
from prefopt.stages.base import StageContext, StageResult
from prefopt.stages.compared import draw, summary_of, write_results


def run(context: StageContext) -> StageResult:
    """Write prompts-, images- and scores-*.parquet, metrics.json, report.html and report.md.

    Raises InputError if a prompt set or a model cannot be read.
    """
    config = context.config
    sets = [read_prompts(chosen, config.ingest.limits) for chosen in config.prompt_sets]
    base = ComparedModel.onto(BASE, base_weights(config.model), config.model)
    others = [ComparedModel.of(name, found, config.model) for name, found in compared_weights(config).items()]
    drawn = draw(context, sets, [base, *others], [])
    results = Results(
        base_name=display_name(config.model.path),
        tie_rule=config.evaluate.ties,
        models=drawn.comparisons(),
        accuracy=None,
        accuracy_pairs=0,
        detections=[],
        ranking=drawn.ranking(),
        features=drawn.features(),
        protocol=drawn.protocol(),
    )
    breakdown = drawn.breakdown([None] * len(sets))
    gained, lost = drawn.changed()
    inputs = ReportInputs(
        config=config,
        results=results,
        prompts=len(drawn.prompts),
        showcase=drawn.showcase(),
        run=None,
        breakdown=breakdown,
        gained=gained,
        lost=lost,
        weights=[(model.name, model.weights.name, model.weights.digest) for model in (base, *others)],
    )
    return StageResult(
        rows=Rows(in_=drawn.images, out=drawn.images),
        files=[*drawn.files, *write_results(context, results, breakdown, inputs)],
        summary=summary_of(context, results, drawn, breakdown.sets),
    )
