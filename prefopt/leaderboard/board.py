"""The leaderboard of several runs: a page that stands alone, a summary in Markdown, and all figures as JSON."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jinja2

from prefopt import __version__
from prefopt.data.storage import Storage
from prefopt.evaluation import wording as report_wording
from prefopt.evaluation.charts import pareto_chart
from prefopt.evaluation.ranking import TEST
from prefopt.evaluation.statistics import estimate_record
from prefopt.leaderboard import wording
from prefopt.leaderboard.records import BaseScore, Figure
from prefopt.leaderboard.runs import read_runs
from prefopt.leaderboard.tables import Group, Row, Spread, Table, make_tables
from prefopt.page.environment import page_environment
from prefopt.page.formats import number, percent

SCHEMA_VERSION = 1
PAGE, SUMMARY, FIGURES = "leaderboard.html", "leaderboard.md", "leaderboard.json"


@dataclass(frozen=True)
class Leaderboard:
    """A written leaderboard."""

    record: dict[str, Any]
    """The content of leaderboard.json."""
    lines: list[str]
    """What to tell whoever asked for it."""


def make_leaderboard(places: Sequence[str], out: str, *, group: bool = False) -> Leaderboard:
    """Read the evaluations of run directories and write leaderboard.html, .md and .json below `out`, all or none.

    `group` sums up runs that differ in seeds alone. Raises as `read_runs`; ConfigError if `out` cannot be written to.
    """
    tables = make_tables(read_runs(places), group=group)
    record = leaderboard_record(tables)
    files = {
        PAGE: render_html(tables),
        SUMMARY: render_markdown(tables),
        FIGURES: json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n",
    }
    target = Storage(out)
    target.check_writable()
    with ExitStack() as streams:
        for name, text in files.items():
            streams.enter_context(target.open_output(name)).write(text.encode())
    warning = wording.apart(tables)
    told = [*([warning] if warning else []), *(wording.verdict(table) for table in tables)]
    return Leaderboard(record, [*told, f"Leaderboard: {target.uri}/{PAGE}"])


def leaderboard_record(tables: Sequence[Table]) -> dict[str, Any]:
    """All figures. What was not measured is null."""
    return {"schema_version": SCHEMA_VERSION, "test": TEST, "tables": [_table_record(table) for table in tables]}


def render_html(tables: Sequence[Table]) -> str:
    """The page: nothing loaded from anywhere, the same bytes for the same tables."""
    return _environment().get_template("leaderboard.html.j2").render(_values(tables, charts=True))


def render_markdown(tables: Sequence[Table]) -> str:
    """A short summary."""
    return _environment().get_template("leaderboard.md.j2").render(_values(tables, charts=False))


def _environment() -> jinja2.Environment:
    environment = page_environment("prefopt.leaderboard")
    environment.filters |= {"spread": _spread, "number_spread": _number_spread}
    return environment


def _values(tables: Sequence[Table], *, charts: bool) -> dict[str, Any]:
    return {
        "version": __version__,
        "title": wording.title(tables),
        "apart": wording.apart(tables),
        "test": TEST,
        "outcomes": report_wording.OUTCOMES,
        "tables": [
            _shown(number, table, differs, charts=charts)
            for number, (table, differs) in enumerate(zip(tables, wording.differences(tables), strict=True), 1)
        ],
    }


def _shown(number: int, table: Table, differs: str, *, charts: bool) -> dict[str, Any]:
    """A table as the templates take it."""
    points = table.points
    level = f"{100.0 * table.level:g}%" if len(table.levels) == 1 else "confidence"
    return {
        "anchor": f"table-{number}",
        "title": f"{differs[0].upper()}{differs[1:]}" if differs else "All models",
        "table": table,
        "level": level,
        "verdict": wording.verdict(table),
        "conditions": wording.conditions(table),
        "notes": wording.notes(table),
        "trained": [row for row in table.rows if row.training],
        "compared": any(row.distance for row in table.rows),
        "pareto": pareto_chart(points, f"pareto-{number}") if charts and len(points) > 1 else None,
    }


def _spread(found: Spread | None, written: Callable[[float], str] = percent) -> str:
    """Mean, smallest and largest."""
    return f"{written(found.mean)} ({written(found.low)} to {written(found.high)})" if found else "-"


def _number_spread(found: Spread | None) -> str:
    return _spread(found, number)


def _table_record(table: Table) -> dict[str, Any]:
    return {
        "runs": table.runs,
        "base": table.base,
        "headline_reward": table.protocol.headline,
        "level": table.level,
        "prompts": table.prompts,
        "protocol": {"digest": table.protocol.digest, **table.protocol.model_dump(mode="json")},
        "base_scores": {reward: _mean_and_median(found) for reward, found in table.base_scores.items()},
        "rows": [_row_record(row, table.level) for row in table.rows],
        "groups": [_group_record(group) for group in table.groups],
        "notes": wording.notes(table),
    }


def _row_record(row: Row, level: float) -> dict[str, Any]:
    training = row.training
    return {
        "name": row.name,
        "run": row.run,
        "model": row.model,
        "evaluation": row.evaluation,
        "level": row.level,
        **row.rank.record(),
        "verdict": row.rank.outcome(level),
        "rewards": {
            reward: {**_mean_and_median(found), "win_rate": _figure(found.win_rate)}
            for reward, found in row.scores.items()
        },
        "accuracy_heldout": _figure(row.accuracy),
        "distance_from_base": _figure(row.distance),
        "diversity": {"within_change": _figure(row.within_change), "across_change": _figure(row.across_change)},
        "features": row.features.model_dump() if row.features else None,
        "training": dict(vars(training)) if training else None,
    }


def _mean_and_median(found: BaseScore) -> dict[str, float]:
    return {"mean": found.mean, "median": found.median}


def _figure(found: Figure | None) -> dict[str, Any] | None:
    return estimate_record(found.estimate) if found else None


def _group_record(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "members": group.members,
        "seeds": group.seeds,
        "n": len(group.members),
        "win_rate": {reward: vars(found) for reward, found in group.wins.items()},
        "accuracy_heldout": vars(group.accuracy) if group.accuracy else None,
        "distance_from_base": vars(group.distance) if group.distance else None,
    }
