"""Columns of every table that a stage writes, in the order they are written."""

import pyarrow as pa

_ID = pa.string()
_SIDES = pa.list_(pa.int32(), 2)
"""Height and width, or top and left."""


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


PAIRS = _schema(
    pair_id=_ID,
    prompt=pa.string(),
    image_0=_ID,
    image_1=_ID,
    split=pa.string(),
    source_file=pa.string(),
    source_row=pa.int64(),
    category=pa.string(),
)
"""One row per pair, sorted by pair_id; image_0 < image_1; category is the prompt's, empty where none is given."""

VOTES = _schema(
    vote_id=_ID,
    pair_id=_ID,
    annotator=pa.string(),
    group=pa.string(),
    label=pa.float64(),
    time=pa.string(),
    shown_first=pa.int8(),
    latest=pa.bool_(),
)
"""One row per vote, sorted by (pair_id, vote_id). label = P(image_0 wins); latest: the annotator's valid vote;
shown_first: 0 or 1, the image that the source names first, null where its order is not the one that was seen."""

IMAGES = _schema(
    image_id=_ID,
    source=pa.int32(),
    file=pa.string(),
    row=pa.int64(),
    column=pa.string(),
    width=pa.int32(),
    height=pa.int32(),
    bytes=pa.int64(),
)
"""Where each unique image lies, sorted by image_id: a table cell (row, column) or a file of its own (row -1)."""

SOURCES = _schema(
    source=pa.int32(),
    kind=pa.string(),
    file=pa.string(),
    bytes=pa.int64(),
    sha256=pa.string(),
)
"""One row per file of each configured source, as it was read; file is its path within the source."""

QUARANTINE = _schema(
    source_file=pa.string(),
    source_row=pa.int64(),
    votes=pa.int64(),
    reason=pa.string(),
    detail=pa.string(),
)
"""Rows that were refused; votes is how many votes the row would have given."""

QUARANTINE_REASONS = (
    "bad_image",
    "image_too_large",
    "empty_prompt",
    "prompt_too_long",
    "bad_label",
    "missing_field",
    "duplicate_vote",
    "withdrawn",
)

LABELS = VOTES.append(pa.field("flipped_by", pa.string()))
"""Votes after noise injection; flipped_by is the configured kind for every vote, never which vote was flipped."""

TRUTH = _schema(vote_id=_ID, flipped=pa.bool_(), group=pa.string())
"""Which votes were flipped. Training never reads it."""

REWARDS = _schema(image_id=_ID, prompt_id=_ID, reward=pa.string(), version=pa.string(), score=pa.float32())

SCORES = _schema(
    pair_id=_ID,
    alpha=pa.float64(),
    confidence=pa.float64(),
    stability=pa.float64(),
    u=pa.float64(),
    panel_majority=pa.float64(),
    vote_share=pa.float64(),
    margins=pa.list_(pa.float64()),
)
"""One row per pair, sorted by pair_id, all oriented towards image_0: alpha = soft P(image_0 wins); confidence,
stability and u belong to the label "image_0 wins" (u of the opposite label is stability - u); panel_majority is 1, 0
or (as many for as against) 0.5 by the signs of the annotators' margins; vote_share is the share of people's votes for
image_0; margins are the annotators' scaled logits for image_0, in the order of `annotators` in scales.json, NaN where
one did not judge the pair."""

VISITS = _schema(
    position=pa.int64(),
    visit_id=_ID,
    pair_id=_ID,
    draw=pa.int32(),
    vote_id=_ID,
    label=pa.float64(),
    t_0=pa.int32(),
    t_1=pa.int32(),
    flip_0=pa.bool_(),
    flip_1=pa.bool_(),
    drop_prompt=pa.bool_(),
    target=_SIDES,
    original_0=_SIDES,
    original_1=_SIDES,
    crop_0=_SIDES,
    crop_1=_SIDES,
    latent_key_0=_ID,
    latent_key_1=_ID,
    inverted_key=_ID,
    reference_0=pa.float32(),
    reference_1=pa.float32(),
)
"""The training plan, in training order. label = P(image_0 wins); target is the bucket's height and width, original_*
the image's own, crop_* the top and left of what is cut out of the image after it was resized and mirrored; keys point
into the stores of that bucket; inverted_key is empty when the noise is sampled; reference_* are the reference's
denoising errors, null unless training reads them. Images are named 0 and 1, not winner and loser: one visit serves
every label."""
