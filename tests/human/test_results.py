import json

import pytest

from prefopt.config.evaluate import BootstrapConfig
from prefopt.data.storage import Storage
from prefopt.errors import InputError
from prefopt.evaluation.statistics import Resampling
from prefopt.human.export import Selection
from prefopt.human.pairs import chosen_pairs, human_directory, read_key
from prefopt.human.results import human_markdown, human_record, human_results, import_votes
from prefopt.human.votes import Vote, VotesRead
from tests.kit.human import evaluation, exported, judgements, small_key, votes_csv

HOW = Resampling(BootstrapConfig(resamples=400), seed=0)


def side(key, pair_id, model):
    return "left" if key.pairs[pair_id].left == model else "right"


def results(key, rows, ties="half"):
    votes = [Vote(*row) for row in rows]
    return human_results(key, VotesRead(votes, len(votes), {}), ties, HOW)


def test_rates_by_hand_under_both_rules():
    key = small_key(4)
    ids = chosen_pairs(key)
    rows = [
        ("ann", ids[0], side(key, ids[0], "tuned")),
        ("ann", ids[1], side(key, ids[1], "tuned")),
        ("ann", ids[2], side(key, ids[2], "base")),
        ("bob", ids[2], "tie"),
    ]
    (half,) = results(key, rows).comparisons
    assert (half.model, half.first, half.wins.value, half.losses.value) == ("tuned", "base", 0.625, 0.375)
    assert (half.ties, half.pairs, half.prompts, half.annotators, half.wins.n) == (0.25, 3, 3, 2, 4)
    (nobody,) = results(key, rows, "nobody").comparisons
    assert (nobody.wins.value, nobody.losses.value) == (0.5, 0.25)


def test_swapping_the_models_mirrors_the_rate():
    key, turned = small_key(40), small_key(40, models=("tuned", "base"))
    shown = chosen_pairs(key)
    rows = judgements(key, shown, annotators=6, each=3, rate=0.7)
    place = {key.pairs[pair_id].drawn.prompt_id: pair_id for pair_id in shown}
    again = {turned.pairs[pair_id].drawn.prompt_id: pair_id for pair_id in chosen_pairs(turned)}
    renamed = []
    for name, pair_id, choice in rows:
        chosen = getattr(key.pairs[pair_id], choice)
        other = again[key.pairs[pair_id].drawn.prompt_id]
        assert place[key.pairs[pair_id].drawn.prompt_id] == pair_id
        renamed.append((name, other, side(turned, other, chosen)))
    (first,), (second,) = results(key, rows).comparisons, results(turned, renamed).comparisons
    assert second.wins.value == pytest.approx(1.0 - first.wins.value)
    assert (second.wins.low, second.wins.high) == pytest.approx((1.0 - first.wins.high, 1.0 - first.wins.low))
    assert (second.wins.low, second.wins.high) == pytest.approx((first.losses.low, first.losses.high))


def test_repetitions_measure_consistency_and_nothing_else():
    key = small_key(4)
    shown = chosen_pairs(key, repeat_share=1.0)
    first = [pair_id for pair_id in shown if key.pairs[pair_id].repeats is None]
    rows = [("ann", pair_id, side(key, pair_id, "tuned")) for pair_id in first]
    before = results(key, rows)
    assert (before.consistency, before.repeat_votes) == (None, 0)
    repeats = [key.repetition(pair_id) for pair_id in first]
    rows += [("ann", pair_id, side(key, pair_id, "tuned")) for pair_id in repeats[:3]]
    rows += [("ann", repeats[3], side(key, repeats[3], "base")), ("bob", repeats[0], "tie")]
    after = results(key, rows)
    assert after.comparisons == before.comparisons
    assert (after.consistency.value, after.consistency.n, after.repeat_votes) == (0.75, 4, 5)
    ann, bob = after.annotators
    assert (ann.annotator, ann.votes, ann.repeats, ann.consistent) == ("ann", 8, 4, 3)
    assert (bob.annotator, bob.votes, bob.left, bob.repeats) == ("bob", 1, None, 0)


def test_simulated_annotators_come_back_from_a_folder_to_the_truth(tmp_path):
    """A true win rate of 0.7, and the same choice in 80 % of repetitions, through the files."""
    output = evaluation(tmp_path / "stage", prompts=200)
    run = Storage(str(tmp_path / "run"))
    _, shown = exported(output, tmp_path, Selection(repeat_share=0.5))
    place = human_directory(run, output.manifest.key)
    key = read_key(place)
    rows = judgements(key, [row["pair_id"] for row in shown], annotators=20, each=3, rate=0.7, steady=0.8)
    (tmp_path / "votes.csv").write_bytes(votes_csv([*rows, ("person 0", "nowhere", "left")]))
    found = import_votes(str(tmp_path / "votes.csv"), run, output.manifest.key, ties="half", how=HOW)
    (comparison,) = found.comparisons
    assert comparison.wins.n == 600
    assert comparison.wins.low < 0.7 < comparison.wins.high
    assert comparison.wins.high - comparison.wins.low < 0.2
    assert found.consistency.n == 300
    assert found.consistency.low < 0.8 < found.consistency.high
    assert 0.4 < found.left < 0.6
    assert found.agreement.units == 200
    record = json.loads(place.read_bytes("human.json"))
    assert record == human_record(found)
    assert record["skipped"] == {"unknown_pair": {"count": 1, "first_line": len(rows) + 2}}
    assert record["comparisons"][0]["wins"]["value"] == comparison.wins.value
    again = import_votes(str(tmp_path / "votes.csv"), run, output.manifest.key, ties="half", how=HOW)
    assert again == found


def test_several_models_have_rates_of_their_own():
    key = small_key(30, models=("base", "tuned", "third"))
    rows = []
    for pair_id in chosen_pairs(key):
        pair = key.pairs[pair_id]
        rows.append(("ann", pair_id, side(key, pair_id, "tuned" if "tuned" in (pair.left, pair.right) else "base")))
    tuned, third = results(key, rows).comparisons
    assert (tuned.model, tuned.wins.value, tuned.pairs) == ("tuned", 1.0, 30)
    assert (third.model, third.wins.value, third.first) == ("third", 0.0, "base")
    alone = results(key, [row for row in rows if "third" not in (key.pairs[row[1]].left, key.pairs[row[1]].right)])
    assert (alone.comparisons[1].wins, alone.comparisons[1].ties) == (None, None)
    assert "third over base: no votes." in human_markdown(alone)


def test_the_summary_shows_names_as_plain_cells():
    key = small_key(2)
    (pair_id, _) = chosen_pairs(key)
    text = human_markdown(results(key, [("a|b\nc", pair_id, "tie")]))
    assert "| a\\|b c | 1 | - | 0 | 0 |" in text
    assert "- tuned over base: 50.0% of 1 votes on 1 pairs by 1 annotators." in text


def test_votes_without_an_export_are_refused(tmp_path):
    (tmp_path / "votes.csv").write_bytes(votes_csv([("ann", "p1", "left")]))
    run = Storage(str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"There is no .*key\.json: votes can only be read"):
        import_votes(str(tmp_path / "votes.csv"), run, "e" * 64, ties="half", how=HOW)
    human_directory(run, "e" * 64).write_bytes("key.json", b'{"pairs": {"../x": {}}}')
    with pytest.raises(InputError, match="is damaged"):
        import_votes(str(tmp_path / "votes.csv"), run, "e" * 64, ties="half", how=HOW)
