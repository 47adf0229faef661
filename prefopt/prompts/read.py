"""From a set's rows to checked prompts, and from several sets to the prompts that are drawn."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from prefopt.config.ingest import Limits
from prefopt.config.prompts import (
    DrawBenchPrompts,
    FilePrompts,
    HeldoutPrompts,
    Hpdv2Prompts,
    PartiPrompts,
    PickapicPrompts,
    PromptSetConfig,
)
from prefopt.data.canonical import check_prompt
from prefopt.data.ids import normalised_prompt, prompt_order
from prefopt.data.sources.base import BadRowError, shown
from prefopt.errors import InputError
from prefopt.prompts.base import Prompt, PromptList, PromptRow, PromptSet
from prefopt.prompts.readers import DrawBench, File, Hpdv2, Parti, Pickapic

SKIPPED = ("empty_prompt", "prompt_too_long", "duplicate_prompt")


def open_prompt_set(config: PromptSetConfig) -> PromptSet:
    """The reader of a set that lies in files. ValueError for `heldout`, which is made of a run's pairs."""
    match config:
        case FilePrompts():
            return File(config)
        case PartiPrompts():
            return Parti(config)
        case PickapicPrompts():
            return Pickapic(config)
        case Hpdv2Prompts():
            return Hpdv2(config)
        case DrawBenchPrompts():
            return DrawBench(config)
        case HeldoutPrompts():
            raise ValueError("held-out prompts are read from a run's pairs, by prefopt.prompts.Heldout")


def read_prompts(config: PromptSetConfig, limits: Limits, prompt_set: PromptSet | None = None) -> PromptList:
    """The checked prompts of a set, at most `most`, in the set's own order.

    A prompt that is empty or longer than limits.prompt_bytes is skipped and counted; so is one that repeats an earlier
    one but for case, spacing and a trailing full stop, unless the set keeps repeats. `prompt_set` is the reader, by
    default that of the set's files. InputError for malformed rows, and if no prompt is left.
    """
    reader = prompt_set or open_prompt_set(config)
    skipped: Counter[str] = Counter()
    seen: set[str] = set()
    kept: list[Prompt] = []
    repeated = 0
    for row in reader.rows():
        text = _checked(row, limits)
        normal = normalised_prompt(text or "")
        if text is None:
            skipped["prompt_too_long" if isinstance(row.prompt, str) and row.prompt.strip() else "empty_prompt"] += 1
        elif normal in seen and not reader.keeps_repeats:
            skipped["duplicate_prompt"] += 1
        else:
            repeated += normal in seen
            seen.add(normal)
            names = [_label(row, field, limits) for field in ("category", "challenge")]
            kept.append(Prompt(text, *names))
    if not kept:
        counted = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise InputError(
            f"The prompt set {config.name} holds no prompt{f' (skipped: {counted})' if counted else ''}: check the"
            " file, or leave the set out of evaluate.prompt_sets."
        )
    return PromptList(config.name, config.kind, _first(kept, config.most, config.order), dict(skipped), repeated)


def drawn_prompts(sets: Iterable[PromptList]) -> list[str]:
    """Every different prompt of the sets, once, in hash order."""
    return sorted({row.prompt for found in sets for row in found.prompts}, key=prompt_order)


def _first(prompts: list[Prompt], most: int | None, order: int) -> tuple[Prompt, ...]:
    """The first in hash order; they stay in their own order."""
    if most is None or len(prompts) <= most:
        return tuple(prompts)
    chosen = sorted(range(len(prompts)), key=lambda index: prompt_order(prompts[index].prompt, order))[:most]
    return tuple(prompts[index] for index in sorted(chosen))


def _checked(row: PromptRow, limits: Limits) -> str | None:
    """The prompt, or None for one to skip."""
    if row.prompt is None:
        return None
    if not isinstance(row.prompt, str):
        raise InputError(f"{row.where}: the prompt must be text, not {shown(row.prompt)}. Mend or remove the entry.")
    try:
        return check_prompt(row.prompt, limits)
    except BadRowError as error:
        if error.reason in SKIPPED:
            return None
        raise InputError(f"{row.where}: {error.detail}. Mend or remove the entry.") from None


def _label(row: PromptRow, field: str, limits: Limits) -> str:
    """A category or challenge as text; null is the empty one."""
    value: Any = getattr(row, field)
    if value is None or value != value:
        return ""
    if not isinstance(value, str | int):
        raise InputError(f"{row.where}: the {field} must be text, not {shown(value)}. Mend the entry.")
    try:
        size = len(str(value).encode())
    except UnicodeEncodeError:
        raise InputError(f"{row.where}: the {field} {shown(value)} is not valid Unicode. Mend the entry.") from None
    if size > limits.prompt_bytes:
        raise InputError(f"{row.where}: the {field} has {size} bytes, limit {limits.prompt_bytes}. Mend the entry.")
    return " ".join(str(value).split())
