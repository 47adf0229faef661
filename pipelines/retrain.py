"""A night of retraining, stage by stage: what `prefopt retrain` does in one process.

Conditions ask for a component's returned value (`Output`): it is the only kind of output that a local run can compare,
and a cluster makes no difference.
"""

from kfp import dsl

from components.decide.component import decide
from components.drift.component import drift
from components.evaluate.component import evaluate
from components.gate.component import gate
from components.ingest.component import ingest
from components.inject.component import inject
from components.plan_night.component import plan_night
from components.score.component import score
from components.train.component import train
from pipelines.tasks import task, work


@dsl.pipeline(name="prefopt-retrain", description="Retrain on new preference data; promote, propose or reject.")  # type: ignore[untyped-decorator]
def retrain(config: str, run_dir: str, full: bool = False) -> None:
    """config: the text of a config (YAML), or where it lies: a path or s3:// URI.

    run_dir: the directory of all nights, a path that all components share or an s3:// prefix.
    full: train from the base on all pairs, due or not.
    """
    planned = work(plan_night(config=config, run_dir=run_dir, full=full))
    with dsl.If(planned.outputs["Output"] == "train", "something-is-new"):
        night = {"config": planned.outputs["night_config"], "run_dir": planned.outputs["night_dir"]}
        ingested = work(ingest(**night))
        injected = task(inject(**night)).after(ingested)
        scored = work(score(**night)).after(injected)
        drifted = task(drift(**night)).after(scored)
        with dsl.If(drifted.outputs["Output"] == "train", "data-are-as-before"):
            trained = work(train(**night))
            evaluated = work(evaluate(**night)).after(trained)
            judged = task(gate(**night)).after(evaluated)
            task(decide(config=config, run_dir=run_dir)).after(judged)
        with dsl.Else("held"):
            task(decide(config=config, run_dir=run_dir))
