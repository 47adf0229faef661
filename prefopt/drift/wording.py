"""The sentences of a drift check: what was seen, and what to do."""

from collections.abc import Sequence

from prefopt.config.drift import Bounds
from prefopt.drift.chance import Measured, Unmeasured
from prefopt.drift.records import Counts, Signal, SignalName, Verdict

NO_CHAMPION = "Train: there is no champion yet, so that there is nothing to compare new pairs with."


_SUBJECTS: dict[SignalName, str] = {
    "prompts": "Prompts were",
    "images": "Images were",
    "annotators": "Annotators were",
    "agreement": "Agreement was",
    "minority": "The minority metric was",
}


def unmeasured(name: SignalName, found: Unmeasured) -> str:
    """Why there is no figure."""
    return f"{_SUBJECTS[name]} not compared: {found.reason}."


def measured(name: SignalName, found: Measured, corrected: float, bounds: Bounds, verdict: Verdict) -> str:
    """The figure, what chance says of it, and how it stands to its bounds."""
    return f"{_SEEN[name](found)} {_judged(found, corrected, bounds, verdict)}"


def _prompts(found: Measured) -> str:
    return (
        f"The words of {found.new:,} new prompts are {found.value:.2f} away from those of {found.known:,} known ones,"
        " where 0 is no more than chance and 1 not a word in common."
    )


def _images(found: Measured) -> str:
    return (
        f"{found.new:,} new images are {found.value:.2f} away from {found.known:,} known ones, in units of the known"
        " ones' spread, where 0 is no more than chance."
    )


def _annotators(found: Measured) -> str:
    who = "annotator groups" if found.figures["groups"] else "annotators"
    return (
        f"The {who} that gave {found.new:,} new votes differ by {found.value:.2f} in their shares from those of"
        f" {found.known:,} known votes, where 0 is no more than chance and 1 nobody in common;"
        f" {_percent(found.figures['unseen'])} of new votes are by annotators never seen before."
    )


def _agreement(found: Measured) -> str:
    return (
        f"{_percent(found.figures['new'])} of {found.new:,} new labels agree with the soft preference, of"
        f" {found.known:,} known ones {_percent(found.figures['known'])}."
    )


def _minority(found: Measured) -> str:
    return (
        f"The minority metric u of {found.new:,} new labels is {found.figures['new']:.3f} on average, that of"
        f" {found.known:,} known ones {found.figures['known']:.3f}."
    )


_SEEN = {
    "prompts": _prompts,
    "images": _images,
    "annotators": _annotators,
    "agreement": _agreement,
    "minority": _minority,
}


def _judged(found: Measured, corrected: float, bounds: Bounds, verdict: Verdict) -> str:
    chance = f"corrected p {corrected:.3g}"
    if verdict == "hold":
        return f"That is beyond {bounds.hold:g}, where nothing is trained ({chance})."
    if verdict == "warn":
        return f"That is beyond {bounds.warn:g}, where a warning is due ({chance})."
    if found.value >= bounds.warn:
        return f"That is beyond {bounds.warn:g}, but may be chance ({chance})."
    return f"A warning is due from {bounds.warn:g} on ({chance})."


def summary(counts: Counts, signals: Sequence[Signal]) -> list[str]:
    """The action and its reasons."""
    holding = [signal.name for signal in signals if signal.verdict == "hold"]
    warning = [signal.name for signal in signals if signal.verdict == "warn"]
    if holding:
        first = (
            f"Hold: nothing is trained, because of {_listed(holding)}. Look at the new pairs. Take back those that are"
            f" wrong, or raise {_listed([f'retrain.drift.{name}.hold' for name in holding])}; then run prefopt retrain"
            " again."
        )
    elif warning:
        first = f"Train, with a warning about {_listed(warning)}."
    elif any(signal.verdict == "ok" for signal in signals):
        first = f"Train: {counts.new:,} new pairs are like {counts.known:,} known ones, as far as was measured."
    else:
        first = f"Train: {counts.new:,} new and {counts.known:,} known pairs could not be compared."
    return [first, *(signal.sentence for signal in signals if signal.verdict != "ok")]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"
