"""What `prefopt evaluate` does for people: the options checked before any work, then an export or an import."""

from dataclasses import dataclass
from typing import Any

from prefopt.config.evaluate import EvaluateConfig
from prefopt.data.storage import Storage
from prefopt.data.tables import Finished
from prefopt.errors import ConfigError
from prefopt.evaluation.statistics import Resampling
from prefopt.human.export import Selection, check_folder, export_pairs
from prefopt.human.pairs import RESULTS, SUMMARY, human_directory
from prefopt.human.results import human_lines, human_record, import_votes
from prefopt.human.votes import VoteColumns, check_votes_file, vote_columns


@dataclass(frozen=True)
class HumanRequest:
    """An export to a folder, or an import of a file."""

    folder: str | None
    selection: Selection
    votes: str | None
    columns: VoteColumns

    @classmethod
    def of(
        cls,
        folder: str | None,
        pairs: int | None,
        repeat_share: float | None,
        prompt_set: str | None,
        votes: str | None,
        columns: list[str] | None,
    ) -> "HumanRequest | None":
        """From the command's options; None if they ask for neither.

        Raises ConfigError for both at once, an option of the other, or a folder that is in use; InputError for a votes
        file that is not there.
        """
        if folder is not None and votes is not None:
            raise ConfigError("--export-pairs and --import-votes are two steps: give one of them.")
        if folder is None and not (pairs is None and repeat_share is None and prompt_set is None):
            raise ConfigError("--pairs, --repeat-share and --prompt-set need --export-pairs DIR.")
        if votes is None and columns:
            raise ConfigError("--vote-column needs --import-votes FILE.")
        if folder is not None:
            check_folder(folder)
        elif votes is not None:
            check_votes_file(votes)
        else:
            return None
        return cls(folder, Selection(pairs, repeat_share or 0.0, prompt_set), votes, vote_columns(columns or []))

    def answer(
        self, evaluation: Finished, run_dir: str, config: EvaluateConfig, models: tuple[str, ...]
    ) -> tuple[dict[str, Any], list[str]]:
        """Do it for a finished evaluation; the record to print as JSON, and lines to print without."""
        run, key = Storage(run_dir), evaluation.manifest.key
        if self.folder is not None:
            made = export_pairs(evaluation, run, self.folder, models=models, seed=config.seed, selection=self.selection)
            told = f"{made.folder}: {made.pairs} pairs and {made.repeats} repetitions. Keep {made.key} from annotators."
            return made.record(), [told]
        assert self.votes is not None
        how = Resampling(config.bootstrap, config.seed)
        results = import_votes(self.votes, run, key, ties=config.ties, how=how, columns=self.columns)
        place = human_directory(run, key).uri
        return human_record(results), [*human_lines(results), f"Figures: {place}/{SUMMARY}, {place}/{RESULTS}"]
