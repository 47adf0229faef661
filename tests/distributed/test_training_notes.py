from pathlib import Path

from prefopt.data.storage import Storage
from prefopt.distributed.training.notes import NoteReader, leave_notes


def test_each_sentence_is_told_once(tmp_path: Path) -> None:
    logs = Storage(str(tmp_path))
    leave_notes(logs, "earlier", ["Old."])
    reader = NoteReader(logs)
    assert reader.new() == []
    leave_notes(logs, "b", ["First.", "Second."])
    leave_notes(logs, "nothing", [])
    assert reader.new() == ["First.", "Second."]
    assert reader.new() == []
    assert logs.files("notes") == ["notes/b.txt", "notes/earlier.txt"]
