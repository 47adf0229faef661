"""From preference data to aligned models and their leaderboard.

The data are prepared once, in the run directory. Every variant of the config then has a run directory of its own below
it, in which it makes a whole run: prefopt takes a directory for one run, whose `run.json` names one model and one
report, and whatever refers to a run by its directory (`init_from`, the registry, the leaderboard, `prefopt gc`) would
find only the variant that was the last to finish if several shared one. Nothing costly is done twice: rewards, latents,
inversions and images lie in the store, where the first stages have put those of all data. Without variants there is one
run, in the run directory itself, whose data stages are done already.
"""

from kfp import dsl

from components.card.component import card
from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.inject.component import inject
from components.leaderboard.component import leaderboard
from components.plan_variants.component import plan_variants
from components.score.component import score
from components.train.component import train
from pipelines.tasks import task, work


@dsl.pipeline(name="prefopt-align", description="Align a model, or variants of it, with preference data.")  # type: ignore[untyped-decorator]
def align(
    config: str,
    run_dir: str,
    variants: dict[str, list[str]] = {},  # noqa: B006 - KFP keeps the default in the compiled pipeline
) -> None:
    """config: the text of a config (YAML), or where it lies: a path or s3:// URI.

    run_dir: the run directory, a path that all components share or an s3:// prefix.
    variants: {NAME: ["KEY=VALUE", ...]}; each becomes the run <run_dir>/variants/NAME.
    """
    planned = task(plan_variants(config=config, run_dir=run_dir, variants=variants))
    ingested = work(ingest(config=config, run_dir=run_dir)).after(planned)
    injected = task(inject(config=config, run_dir=run_dir)).after(ingested)
    scored = work(score(config=config, run_dir=run_dir)).after(injected)
    task(card(config=config, run_dir=run_dir)).after(scored)
    with dsl.ParallelFor(planned.output) as variant:
        run = {"config": config, "run_dir": variant.run_dir, "overrides": variant.overrides}
        own_data = work(ingest(**run)).after(scored)
        own_labels = task(inject(**run)).after(own_data)
        own_scores = work(score(**run)).after(own_labels)
        trained = work(train(**run)).after(own_scores)
        evaluated = work(evaluate(**run)).after(trained)
    task(leaderboard(evaluations=dsl.Collected(evaluated.outputs["stage_uri"]), out=run_dir))
