"""KFP component: the models of several runs in one table."""

from kfp import dsl
from kfp.dsl import HTML, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)  # type: ignore[untyped-decorator]
def leaderboard(
    evaluations: list[str],
    out: str,
    page: Output[HTML],
    group: bool = False,
) -> None:
    """Rank the models of evaluated runs.

    evaluations: the `stage_uri` of each evaluate component; every one is of a run directory of its own.
    out: where leaderboard.html, .md and .json are written, a path or s3:// prefix.
    group: sum up runs that differ in seeds alone.
    """
    from pathlib import Path

    from prefopt.data.storage import Storage
    from prefopt.platform.here import answer

    runs = [uri.rsplit("/", 2)[0] for uri in evaluations]
    answer(["leaderboard", *runs, "--out", out, *(["--group"] if group else [])])
    Path(page.path).write_bytes(Storage(out).read_bytes("leaderboard.html"))
