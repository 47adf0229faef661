"""`prefopt evaluate`: of a run, of models without a run, or by people."""

from typing import Annotated

import typer

from prefopt.cli.common import (
    AsJson,
    Debug,
    Limit,
    Overrides,
    RayAddress,
    RunDir,
    all_overrides,
    configure,
    execute,
    print_json,
    stage_record,
)
from prefopt.config import load_comparison
from prefopt.config.evaluate import BASE, TUNED
from prefopt.console import Reporter
from prefopt.errors import ConfigError
from prefopt.stages.chain import Chain
from prefopt.stages.keys import COMPARISON, STAGES


def evaluate(
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [MODEL]...", help="A YAML config; with --models also further models."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            metavar="A B [C]...",
            help="Compare models without a run, B and others with A: hub ids, directories, LoRA weights, runs.",
        ),
    ] = None,
    run_dir: RunDir = None,
    set_: Overrides = None,
    limit: Limit = None,
    export_pairs: Annotated[
        str | None, typer.Option("--export-pairs", metavar="DIR", help="Write blinded pairs for people to judge.")
    ] = None,
    pairs: Annotated[int | None, typer.Option("--pairs", min=1, help="Export at most so many pairs.")] = None,
    repeat_share: Annotated[
        float | None, typer.Option("--repeat-share", min=0.0, max=1.0, help="Export this share of them twice.")
    ] = None,
    prompt_set: Annotated[
        str | None, typer.Option("--prompt-set", help="Export pairs of this prompt set only.")
    ] = None,
    import_votes: Annotated[
        str | None, typer.Option("--import-votes", metavar="FILE", help="Turn votes (CSV) into win rates.")
    ] = None,
    vote_column: Annotated[
        list[str] | None,
        typer.Option("--vote-column", metavar="NAME=COLUMN", help="Where annotator_id, pair_id or choice stands."),
    ] = None,
    json_: AsJson = False,
    ray_address: RayAddress = None,
    debug: Debug = False,
) -> None:
    """Draw images from base and tuned model, or from any models, score them, and write the report; or let people judge
    them."""
    from prefopt.human.command import HumanRequest

    wanted = HumanRequest.of(export_pairs, pairs, repeat_share, prompt_set, import_votes, vote_column)
    configs = [name for name in given or [] if models is None or name.endswith((".yaml", ".yml"))]
    if len(configs) > 1 or (models is None and not configs):
        raise ConfigError(f"Give one config, not {len(configs)}; models to compare follow --models.")
    if models is None:
        tree, place = configure(configs[0], run_dir, set_, limit, ray_address)
        stage, specs, drawn = "evaluate", STAGES, (BASE, TUNED, *tree.evaluate.models)
    else:
        others = [name for name in given or [] if name not in configs]
        overrides = all_overrides(set_, limit, ray_address)
        tree = load_comparison(next(iter(configs), None), [models, *others], overrides)
        place = run_dir or f"runs/compare-{tree.name}"
        stage, specs, drawn = "compare", COMPARISON, (BASE, *tree.evaluate.models)
    if wanted is not None and wanted.votes is not None:
        with Reporter() as reporter:
            chain = Chain(tree, place, start_engine=lambda: None, progress=reporter.progress, stages=specs)
        record, told = wanted.answer(chain.finished(stage, needed_by="--import-votes"), place, tree.evaluate, drawn)
    else:
        (outcome,) = execute(tree, place, [stage], debug, specs)
        record, told = stage_record(outcome), [f"Report: {place}/report.html"]
        if wanted is not None:
            record, told = wanted.answer(outcome.output, place, tree.evaluate, drawn)
    if json_:
        print_json(record)
    else:
        typer.echo("\n".join(told))
