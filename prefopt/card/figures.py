"""The files of figures: card.json and suspicious.csv. Equal input gives equal bytes: no time, no place."""

import csv
import dataclasses
import io
import json
from typing import Any

from prefopt.card.annotators import Annotator, People
from prefopt.card.findings import findings
from prefopt.card.groups import Group
from prefopt.card.people import MEASURES
from prefopt.card.shares import LEVEL, Share
from prefopt.card.survey import Listed, Survey
from prefopt.config.card import CardConfig

SCHEMA_VERSION = 1
CATEGORIES = 100
"""Categories that are listed at most."""
_DIGITS = 6
_CHOICES = {1: "A", -1: "B", 0: "tie"}
COLUMNS = (
    *("rank", "suspicion", "reasons", "pair_id", "split", "category", "cluster", "prompt", "image_a", "image_b"),
    *("votes_a", "votes_b", "ties", "u", "panel_a", "panel_b", "panel", "changed", "flipped_on_purpose", "votes"),
    *("source_file", "source_row"),
)


def figures(found: Survey, config: CardConfig) -> dict[str, Any]:
    """The content of card.json. What was not measured is null."""
    content: dict[str, Any] = _rounded(
        {
            "schema_version": SCHEMA_VERSION,
            "level": LEVEL,
            "settings": config.model_dump(mode="json"),
            "findings": [one.text for one in findings(found)],
            "counts": found.counts.as_dict(),
            "duplicates": {**dataclasses.asdict(found.duplicates), "spellings": found.spellings},
            "ties": _share(found.ties),
            "contradictions": {
                "pairs": _share(found.contradicted),
                "agreement": dataclasses.asdict(found.agreement),
                "annotators_who_changed": found.counts.annotators_who_changed,
            },
            "annotators": _people(found.people),
            "times": found.times,
            "prompts": {
                "clusters": [_group(group) for group in found.clusters],
                "categories": [_group(group) for group in found.categories[:CATEGORIES]],
            },
            "has_panel": found.has_panel,
            "suspicious": {
                "found": found.suspects_found,
                "listed": len(found.suspects),
                "listed_with_flipped": sum(one.suspect.flipped > 0 for one in found.suspects),
            },
        }
    )
    return content


def as_json(content: dict[str, Any]) -> bytes:
    """Figures as a file."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def suspicious_csv(listed: list[Listed]) -> bytes:
    """All listed pairs, the most suspicious first. Texts that a spreadsheet would take for a formula get a quote."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, one in enumerate(listed, start=1):
        row = _row(rank, one)
        assert tuple(row) == COLUMNS
        writer.writerow(_harmless(cell) for cell in row.values())
    return stream.getvalue().encode()


def _row(rank: int, one: Listed) -> dict[str, Any]:
    found, pair = one.suspect, one.suspect.pair
    given = [f"{vote.annotator or 'anonymous'}: {_CHOICES[vote.side]}" for vote in found.judgements if vote.counts]
    return {
        "rank": rank,
        "suspicion": f"{found.suspicion:.4f}",
        "reasons": " ".join(one.reasons),
        **{name: pair[name] or "" for name in ("pair_id", "split", "category")},
        "cluster": found.cluster,
        "prompt": pair["prompt"],
        "image_a": pair["image_0"],
        "image_b": pair["image_1"],
        "votes_a": found.wins[0],
        "votes_b": found.wins[1],
        "ties": found.ties,
        "u": "" if found.u is None else f"{found.u:.4f}",
        "panel_a": found.panel[0],
        "panel_b": found.panel[1],
        "panel": found.panel[2],
        "changed": found.changed,
        "flipped_on_purpose": found.flipped,
        "votes": "; ".join(given),
        "source_file": pair["source_file"],
        "source_row": pair["source_row"],
    }


def _harmless(cell: Any) -> Any:
    risky = isinstance(cell, str) and cell.lstrip()[:1] in tuple("=+-@")
    return f"'{cell}" if risky else cell


def _people(people: People) -> dict[str, Any]:
    return {
        "counted": people.counted,
        "standing_out": people.standing_out,
        "position_known": people.position_known,
        "everyone": {name: _with_time(people.everyone[name], people.everyone_by_time[name]) for name in MEASURES},
        "spread": {name: people.quantiles(name) for name in MEASURES},
        "listed": [_annotator(one) for one in people.listed],
    }


def _annotator(one: Annotator) -> dict[str, Any]:
    return {
        **{name: getattr(one, name) for name in ("name", "votes", "changed", "p", "stands_out")},
        "ties": _share(one.ties),
        **{name: _with_time(one.shares[name], one.by_time[name]) for name in MEASURES},
    }


def _share(share: Share) -> dict[str, Any]:
    return {name: getattr(share, name) for name in ("hits", "n", "value", "low", "high")}


def _with_time(share: Share, by_time: list[Share]) -> dict[str, Any]:
    return {**_share(share), "by_time": [{"hits": part.hits, "n": part.n} for part in by_time]}


def _group(group: Group) -> dict[str, Any]:
    return {
        **{name: getattr(group, name) for name in ("name", "pairs", "votes")},
        "ties": _share(group.ties),
        "disagreement": _share(group.disagreement),
        "u": dataclasses.asdict(group.u),
    }


def _rounded(value: Any) -> Any:
    """Six digits of every number: enough, and free of a machine's last bits."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value
