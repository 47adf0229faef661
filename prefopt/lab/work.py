"""What a worker of the laboratory does: a stage that many cells share, or a cell."""

from dataclasses import dataclass

from prefopt.config import RunConfig, dump_config, load_config
from prefopt.data.storage import Storage
from prefopt.distributed.units import say_nothing
from prefopt.errors import ConfigError
from prefopt.lab.cells import Cell, as_overrides
from prefopt.lab.measure import measure
from prefopt.lab.outcome import Outcome
from prefopt.lab.truth import score_truth
from prefopt.platform.stage import run_stage
from prefopt.stages.chain import Chain

SHARED = ("ingest", "inject", "score")
"""Stages that cells with the same data, noise and visits share."""
OWN = ("train", "evaluate")


@dataclass(frozen=True)
class Laboratory:
    """Where the work is done, the same for all of it."""

    run: str
    """The config that all cells share."""
    place: str
    """The laboratory's directory, a path or URI."""
    truth: str | None
    """A reward that knows what the majority truly prefers."""
    elsewhere: bool = False
    """Whether a cell's stages are jobs that `cluster.submit` sends to a cluster. If not, they work in this process."""

    def config(self, cell: Cell) -> RunConfig:
        """A cell's config. ConfigError if its settings make none, or if it would be judged on another split than its
        kind of cell is: tuning on validation, the grid on test."""
        here = {} if self.elsewhere else {"store": f"{self.place}/store", "cluster.engine": "process"}
        try:
            config = load_config(self.run, [*cell.settings, *as_overrides(here)])
        except ConfigError as error:
            raise ConfigError(f"The cell {cell.title!r} is no run. {error}") from None
        split, due = config.evaluate.split, "test" if cell.candidate is None else "validation"
        if split != due:
            why = "settings are chosen on validation and compared on test"
            raise ConfigError(
                f"The cell {cell.title!r} would be judged on the {split} split, not on {due}: {why}. Leave"
                " evaluate.split out of the run and of what methods and noises set."
            )
        return config

    def keys(self, cell: Cell) -> dict[str, str]:
        """Of its stages."""
        chain = _chain(self.config(cell), self._shared)
        return {stage: chain.key(stage) for stage in (*SHARED, *OWN)}

    def do_stage(self, stage: str, cell: Cell) -> None:
        """A stage that the cell shares with others, whose parents are done."""
        config = self.config(cell)
        chain = _chain(config, self._shared)
        self._run(chain, config, self._shared, stage)
        if stage == "score" and self.truth is not None:
            score_truth(chain.context(stage), self.truth)

    def do_cell(self, cell: Cell) -> Outcome:
        """A cell, whose shared stages are done: train, evaluate, measure."""
        config, place = self.config(cell), f"{self.place}/{cell.name}"
        shared, own = _chain(config, self._shared), _chain(config, place)
        for stage in SHARED:
            own.adopt(stage, shared)
        for stage in OWN:
            self._run(own, config, place, stage)
        stages = {stage: own.finished(stage, needed_by=cell.title) for stage in (*SHARED, *OWN)}
        return measure(cell, config, Storage(place), stages, self.truth)

    @property
    def _shared(self) -> str:
        """A run directory that holds every shared stage."""
        return f"{self.place}/shared"

    def _run(self, chain: Chain, config: RunConfig, place: str, stage: str) -> None:
        if self.elsewhere:
            run_stage(stage, dump_config(config), place, tell=lambda line: None)
        else:
            chain.run([stage])


def _chain(config: RunConfig, place: str) -> Chain:
    return Chain(config, place, start_engine=lambda: None, progress=say_nothing)
