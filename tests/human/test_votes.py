import pytest

from prefopt.errors import ConfigError, InputError
from prefopt.human import votes as reading
from prefopt.human.votes import Skipped, Vote, VoteColumns, read_votes, vote_columns
from tests.kit.human import votes_csv

PAIRS = {"p1", "p2"}


def read(tmp_path, data, columns=None):
    path = tmp_path / "votes.csv"
    path.write_bytes(data)
    return read_votes(str(path), PAIRS, columns)


def test_rows_are_checked_one_by_one(tmp_path):
    found = read(
        tmp_path,
        votes_csv(
            [
                ["ann", "p1", "left"],  # line 2, replaced below
                ["", "p1", "left"],
                ["ann", "p9", "left"],
                ["ann", "p2", "both"],
                [],
                ["ann", "p2", ""],
                ["bob", "p1", " Tie "],
                ["ann", "p1", "RIGHT"],
                ["ann", "p1"],
                ["  ", "p9", "?"],
            ]
        ),
    )
    assert sorted(found.votes) == [Vote("ann", "p1", "right"), Vote("bob", "p1", "tie")]
    assert found.skipped == {
        "missing_annotator": Skipped(2, 3),
        "replaced_vote": Skipped(1, 2),
        "unknown_choice": Skipped(3, 5),
        "unknown_pair": Skipped(1, 4),
    }
    assert found.rows == len(found.votes) + sum(reason.count for reason in found.skipped.values()) == 9


def test_a_byte_order_mark_other_columns_and_other_names(tmp_path):
    rows = [["x", "left", "p1", "ann"], ["y", "right", "p2", "ann"]]
    data = votes_csv(rows, ["time", "answer", "item", "worker"])
    columns = vote_columns(["annotator_id=worker", "pair_id=item", "choice=answer"])
    for mark in (b"", b"\xef\xbb\xbf"):
        found = read(tmp_path, mark + data, columns)
        assert found.votes == [Vote("ann", "p1", "left"), Vote("ann", "p2", "right")]
        assert found.skipped == {}
    assert vote_columns([]) == VoteColumns()


def test_line_numbers_are_those_of_the_file(tmp_path):
    data = b'annotator_id,pair_id,choice,note\r\nann,p1,left,"two\r\nlines"\r\nann,p9,left,\r\n'
    assert read(tmp_path, data).skipped == {"unknown_pair": Skipped(1, 4)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no column 'annotator_id', 'pair_id', 'choice'; its header is empty"),
        (b"annotator_id,pair_id\na,p1\n", r"no column 'choice'.*--vote-column"),
        (b"annotator_id,pair_id,choice,choice\na,p1,left,right\n", "two columns 'choice'"),
        (b"annotator_id,pair_id,choice\n", "holds no valid vote. Rows need"),
        (b"annotator_id,pair_id,choice\na,p9,left\nb,p9,left\n", r"unknown_pair in 2 rows, first in line 2"),
        (b"annotator_id,pair_id,choice\na,p1,left\n\xff,p1,left\n", "line 3: byte 0xff is not UTF-8"),
        (b'annotator_id,pair_id,choice\na,p1,"left\n', r"line 2 is not valid CSV"),
        (b'annotator_id,pair_id,choice\na,p1,"left"x\n', r"line 2 is not valid CSV"),
        ("annotator_id,pair_id,choice\na,p1,left\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, data, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "p1/../p2", "p1\x00", "images/p1.png"])
def test_a_pair_id_is_only_ever_compared(tmp_path, name):
    data = votes_csv([["ann", name, "left"], ["ann", "p1", "left"]])
    assert read(tmp_path, data).skipped == {"unknown_pair": Skipped(1, 2)}


def test_a_missing_or_huge_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is no votes file"):
        read_votes(str(tmp_path / "none.csv"), PAIRS)
    with pytest.raises(InputError, match="There is no votes file"):
        read_votes(str(tmp_path) + "/", PAIRS)
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match="may have 10"):
        read(tmp_path, votes_csv([["ann", "p1", "left"]]))


@pytest.mark.parametrize("setting", ["worker", "annotator=worker", "choice="])
def test_column_names_must_name_a_field(setting):
    with pytest.raises(ConfigError, match="must be NAME=COLUMN"):
        vote_columns([setting])
