"""The sentences of a leaderboard: which models win, what tables differ in, what a reader must know."""

from collections.abc import Sequence

from prefopt.evaluation.wording import interval, ranking_sentence
from prefopt.leaderboard.tables import Table
from prefopt.page.formats import number, percent

_SAMPLER = {"steps": "{} steps", "guidance": "guidance {}", "resolution": "{} pixels", "scheduler": "{}"}
_TIES = {"half": "ties count half", "nobody": "ties count for nobody"}
_SHORT = 8


def title(tables: Sequence[Table]) -> str:
    """What the page is about."""
    models = sum(len(table.rows) for table in tables)
    return f"{models} model{'s' if models != 1 else ''} against {_listed(sorted({table.base for table in tables}))}"


def differences(tables: Sequence[Table]) -> list[str]:
    """For each table, in words, what its conditions are where those of the tables differ; empty for a single table."""
    told = [_conditions(table) for table in tables]
    names = list(dict.fromkeys(name for found in told for name in found))
    parts: list[list[str]] = [[] for _ in tables]
    for name in names:
        found = [one.get(name, ("", _absent(name))) for one in told]
        if len({identity for identity, _ in found}) == 1:
            continue
        alike = len({words for _, words in found}) < len({identity for identity, _ in found})
        for place, (identity, words) in enumerate(found):
            parts[place].append(f"{words} ({identity[:_SHORT]})" if alike and identity else words)
    return [", ".join(found) for found in parts]


def conditions(table: Table) -> str:
    """The conditions of all models of a table."""
    return ", ".join(words for _, words in _conditions(table).values())


def verdict(table: Table) -> str:
    """The best model, and which models are better than the base."""
    best, several = table.rows[0], len(table.rows) > 1
    prompts = f"{table.prompts:,} prompt{'s' if table.prompts != 1 else ''}"
    found = (
        f"{best.name} wins {'most: ' if several else ''}{percent(best.wins.value)} of comparisons with {table.base} on"
        f" {table.protocol.headline}, over {prompts} ({interval(best.wins, best.level)})."
    )
    if several:
        return f"{found} {ranking_sentence([row.rank for row in table.rows], table.level)}"
    meaning = {"better": "It is better than the base.", "worse": "It is worse than the base."}
    return f"{found} {meaning.get(best.rank.outcome(table.level), 'It is not told apart from the base.')}"


def notes(table: Table) -> list[str]:
    """What weakens the table."""
    found = []
    judged = [row.name for row in table.rows if row.training and row.training.on_judge]
    if judged:
        found.append(
            f"{table.protocol.headline} also labelled or scored the training pairs of {_listed(judged)}: a gain on it"
            " may be reward hacking."
        )
    if table.other_base:
        found.append(
            f"The base's scores in {_listed(table.other_base)} are not those in {table.runs[0]}, although all"
            " conditions agree: images were drawn on another kind of machine or with other versions of the libraries."
            " Each model is compared with the base's images of its own run."
        )
    if len(table.levels) > 1:
        levels = _listed([f"{100.0 * level:g}%" for level in table.levels])
        found.append(f"Intervals are of several levels, {levels}; the verdicts follow {100.0 * table.level:g}%.")
    if len(table.features) > 1:
        kinds = _listed(sorted(f"{one.name} ({one.version[:_SHORT]})" for one in table.features))
        found.append(f"Distances and diversity were measured by {kinds}, which have no common scale.")
    return found


def apart(tables: Sequence[Table]) -> str:
    """That the tables cannot be ranked with each other; empty for a single table."""
    if len(tables) == 1:
        return ""
    return (
        f"These evaluations do not share their conditions, so that there are {len(tables)} tables, and models of"
        " different tables are not ranked with each other."
    )


def _conditions(table: Table) -> dict[str, tuple[str, str]]:
    """By condition: what tells it apart, and its words."""
    protocol = table.protocol
    sets = ", ".join(f"{name} {count:,}" for name, count in protocol.prompt_sets.items())
    samples = f"{protocol.samples} image{'s' if protocol.samples != 1 else ''} per prompt"
    found = {
        "base": (protocol.base, f"base {table.base}"),
        "prompts": (protocol.prompts, f"{table.prompts:,} prompts ({sets})"),
        "samples": (str(protocol.samples), samples),
    }
    for name, value in sorted(protocol.sampler.items()):
        shown = number(value) if isinstance(value, float) else str(value)
        found[f"sampler {name}"] = (repr(value), _SAMPLER.get(name, f"{name} {{}}").format(shown))
    found["seed"] = (str(protocol.seed), f"seed {protocol.seed}")
    found["headline"] = (protocol.headline, f"ranked by {protocol.headline}")
    for name, version in sorted(protocol.rewards.items()):
        found[f"reward {name}"] = (version, f"{name} version {version}")
    found["ties"] = (protocol.ties, _TIES.get(protocol.ties, protocol.ties))
    return found


def _absent(name: str) -> str:
    """A condition that a table does not have: another's reward or sampler setting."""
    return f"without {name.partition(' ')[2]}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
