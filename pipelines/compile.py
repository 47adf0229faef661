"""`python -m pipelines.compile` writes every pipeline as YAML beside its source."""

from pathlib import Path

from kfp import compiler

from pipelines.align import align
from pipelines.retrain import retrain

PIPELINES = {"align": align, "retrain": retrain}


def compile_all(directory: Path) -> list[Path]:
    """Compile all pipelines; gives the files."""
    places = {name: directory / f"{name}.yaml" for name in PIPELINES}
    for name, place in places.items():
        compiler.Compiler().compile(PIPELINES[name], str(place))
    return list(places.values())


if __name__ == "__main__":
    compile_all(Path(__file__).parent)
