"""From source rows to canonical votes: checks, content ids, orientation, splits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefopt.config.ingest import IngestConfig, Limits, Split
from prefopt.data.ids import image_id, normalised_prompt, pair_id, row_uniform, vote_id
from prefopt.data.images import check_image
from prefopt.data.sources.base import BadRowError, ImageCell, ParsedRow, RawVote, shown

TEST, VALIDATION, TRAIN = "test", "validation", "train"


@dataclass(frozen=True)
class CheckedImage:
    """An image of a row after its check: its id, or why it was refused."""

    image_id: str
    width: int
    height: int
    bytes: int


def check_prompt(prompt: Any, limits: Limits) -> str:
    """The prompt as text. BadRowError if it is missing, empty or too long."""
    if not isinstance(prompt, str):
        raise BadRowError("missing_field", "the prompt is missing")
    if not prompt.strip():
        raise BadRowError("empty_prompt", "the prompt is empty")
    if len(prompt.encode(errors="replace")) > limits.prompt_bytes:
        raise BadRowError("prompt_too_long", f"{len(prompt)} characters, limit {limits.prompt_bytes} bytes")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise BadRowError("missing_field", "the prompt is not valid Unicode") from None
    return prompt


def check_label(label: Any) -> float:
    """P(first wins). BadRowError unless it is a number in [0, 1]."""
    if isinstance(label, bool) or not isinstance(label, int | float):
        raise BadRowError("bad_label", f"{shown(label)} is not a number")
    if not 0.0 <= label <= 1.0:
        raise BadRowError("bad_label", f"{shown(label)} lies outside [0, 1]")
    return float(label)


def split_of(prompt: str, split: Split) -> str:
    """The split of a prompt: a function of the split seed and the normalised prompt alone."""
    place = row_uniform(split.seed, "split", normalised_prompt(prompt))
    if place < split.test:
        return TEST
    return VALIDATION if place < split.test + split.validation else TRAIN


def canonical_row(
    parsed: ParsedRow, config: IngestConfig, load: Callable[[ImageCell], bytes], where: str
) -> tuple[list[CheckedImage | BadRowError], list[dict[str, Any] | BadRowError]]:
    """Check one row. Returns one entry per image and one per vote: the canonical form, or why it was refused.

    `load` gives an image's bytes; `where` names the row and tells anonymous votes apart. Raises BadRowError for
    a fault of the whole row.
    """
    if not parsed.votes:
        raise BadRowError("missing_field", "the row holds no vote")
    try:
        prompt = check_prompt(parsed.prompt, config.limits)
    except BadRowError as error:
        raise BadRowError(error.reason, error.detail, votes=len(parsed.votes)) from None
    images = [_check_cell(cell, config, load) for cell in parsed.images]
    split = split_of(prompt, config.split)
    shared = {"prompt": prompt, "split": split, "category": parsed.category}
    votes = [_canonical_vote(vote, index, images, shared, where) for index, vote in enumerate(parsed.votes)]
    return images, votes


def _check_cell(
    cell: ImageCell, config: IngestConfig, load: Callable[[ImageCell], bytes]
) -> CheckedImage | BadRowError:
    try:
        data = load(cell)
        width, height = check_image(data, config.limits, full=config.verify_images == "full")
    except BadRowError as error:
        place = cell.column or cell.path
        return BadRowError(error.reason, f"{place}: {error.detail}")
    return CheckedImage(image_id(data), width, height, len(data))


def _canonical_vote(
    vote: RawVote, index: int, images: list[CheckedImage | BadRowError], shared: dict[str, str], where: str
) -> dict[str, Any] | BadRowError:
    first, second = images[vote.first], images[vote.second]
    for image in (first, second):
        if isinstance(image, BadRowError):
            return BadRowError(image.reason, image.detail)
    assert isinstance(first, CheckedImage)
    assert isinstance(second, CheckedImage)
    try:
        label = check_label(vote.label)
    except BadRowError as error:
        return error
    if first.image_id == second.image_id:
        return BadRowError("bad_image", "both images of the pair are the same")
    pair = pair_id(shared["prompt"], first.image_id, second.image_id)
    in_order = first.image_id < second.image_id
    label = label if in_order else 1.0 - label
    return {
        "vote_id": vote_id(pair, vote.annotator, _event(vote, label, f"{where}/{index}")),
        "pair_id": pair,
        **shared,
        "image_0": min(first.image_id, second.image_id),
        "image_1": max(first.image_id, second.image_id),
        "annotator": vote.annotator,
        "group": vote.group,
        "label": label,
        "time": vote.time,
        "shown_first": (0 if in_order else 1) if vote.ordered else None,
    }


def _event(vote: RawVote, label: float, where: str) -> str:
    """What tells this vote apart: its event id or time; else the label of a named annotator; else its place."""
    if vote.event or vote.time:
        return vote.event or vote.time
    return f"label {label}" if vote.annotator else where
