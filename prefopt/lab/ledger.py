"""A file of outcomes to which several sittings add theirs."""

from prefopt.data.storage import Storage
from prefopt.lab.outcome import Outcome, as_lines, read_outcomes


class Ledger:
    """What is known of cells by now, from any machine."""

    def __init__(self, place: str) -> None:
        """`place`: a path or URI. StorageError if it cannot be written, InputError for a line that is no outcome."""
        folder, _, self._file = place.rpartition("/")
        self._folder = Storage(folder)
        self._folder.check_writable()
        self._outcomes: dict[tuple[str, str | None], Outcome] = {}
        self.look()

    def find(self, key: str, truth: str | None) -> Outcome | None:
        """The outcome of the cell with this key, measured with this truth, as of the last look."""
        return self._outcomes.get((key, truth))

    def look(self) -> str | None:
        """Read the file, to which others may have added; its tag, or None if there is no file."""
        found = self._folder.read_tagged(self._file)
        if found is None:
            return None
        data, tag = found
        outcomes = read_outcomes(data, f"{self._folder.uri}/{self._file}")
        self._outcomes = {(one.key, one.truth): one for one in outcomes}
        return tag

    def keep(self, outcome: Outcome) -> None:
        """Add it to what the file holds by now."""
        while True:
            tag = self.look()
            self._outcomes[outcome.key, outcome.truth] = outcome
            lines = as_lines(self._outcomes.values()).encode()
            if tag is None:
                written = self._folder.create(self._file, lines)
            else:
                written = self._folder.replace(self._file, lines, tag) is not None
            if written:
                return
