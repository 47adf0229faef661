"""Small pipelines with the parameters of prefopt's own, compiled by kfp."""

from pathlib import Path

from kfp import compiler, dsl


@dsl.component(base_image="prefopt:test", install_kfp_package=False)  # type: ignore[untyped-decorator]
def stage(config: str, run_dir: str) -> None:
    """Do nothing."""


@dsl.pipeline(name="align")  # type: ignore[untyped-decorator]
def align(config: str, run_dir: str, variants: dict[str, list[str]] = {}) -> None:  # noqa: B006
    """A pipeline with variants."""
    stage(config=config, run_dir=run_dir)


@dsl.pipeline(name="retrain")  # type: ignore[untyped-decorator]
def retrain(config: str, run_dir: str, full: bool = False) -> None:
    """A pipeline without variants."""
    stage(config=config, run_dir=run_dir)


@dsl.pipeline(name="own")  # type: ignore[untyped-decorator]
def own(config: str, run_dir: str, rounds: int, share: float = 0.5, dry: bool = False, more: dict = {}) -> None:  # type: ignore[type-arg]  # noqa: B006
    """A user's pipeline, with a parameter that must be given."""
    stage(config=config, run_dir=run_dir)


def compile_all(directory: Path) -> None:
    """Write align.yaml, retrain.yaml and own.yaml."""
    directory.mkdir(parents=True, exist_ok=True)
    for pipeline in (align, retrain, own):
        compiler.Compiler().compile(pipeline, str(directory / f"{pipeline.name}.yaml"))
