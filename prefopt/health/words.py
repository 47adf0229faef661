"""The sentences of verdicts: what was seen, with its figures, and what to do."""

import math
from collections.abc import Sequence

from prefopt.health.figures import Figures, PairedEvaluation, Share

LN2 = math.log(2.0)
_NEAR_LN2 = 0.05
_SMALL_LOGIT = 0.5
"""Below it the loss is near ln 2 whatever the pairs do: it differs by about half of the mean logit."""

COLLAPSED_ADVICE = (
    "Stop and train again with a smaller train.optimizer.lr, by a factor of 2 to 10, or with a larger"
    " train.objective.beta, which holds the policy closer to its reference: either makes another run, which starts from"
    " its first step. Set from the start, train.guard.action roll_back goes back and lowers the rate by itself."
)


def percent(value: float) -> str:
    """A share with one decimal."""
    return f"{100.0 * value:.1f}%"


def change(value: float) -> str:
    """A relative change with its sign."""
    return f"{100.0 * value:+.2g}%" if abs(value) < 0.1 else f"{100.0 * value:+.0f}%"


def interval(share: Share) -> str:
    """A share with its interval."""
    return f"{percent(share.value)} (95% interval {percent(share.low)} to {percent(share.high)})"


def rounded(value: float) -> str:
    """Two significant digits, as a plain number."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def broken(pairs: int) -> str:
    """Figures that are not numbers."""
    return f"{pairs:,} pairs of applied steps had a loss or an error that is not finite."


def far_above(figures: Figures) -> str:
    """The winner's error."""
    return (
        f"From step {figures.first} to {figures.last} the error on winners was"
        f" {rounded(1.0 + (figures.winner_drift or 0.0))} times the reference's: the policy has forgotten how to"
        " denoise, and its images turn to noise."
    )


def exploded(ratio: float) -> str:
    """The gradient norm."""
    return f"The gradient norm is {rounded(ratio)} times what it was earlier in the window."


def fell(evaluations: Sequence[PairedEvaluation]) -> str:
    """The paired evaluation."""
    best, latest = max(evaluations, key=lambda found: found.wins.low), evaluations[-1]
    return (
        f"Images at step {latest.step} win {interval(latest.wins)} of comparisons with those from before training;"
        f" at step {best.step} they won {interval(best.wins)}."
    )


def no_images(evaluation: PairedEvaluation) -> str:
    """Images that are none."""
    return (
        f"{evaluation.broken} of the {evaluation.wins.n} images at step {evaluation.step} are no images: their values"
        " are not finite."
    )


def too_early(figures: Figures, needed: int) -> tuple[str, str]:
    """Too little to judge."""
    sentence = f"{figures.applied} steps and {figures.pairs:,} pairs are too few to judge."
    if figures.first == 1:
        sentence += (
            f" A policy that starts as its reference has a logit of 0 on every pair and a loss of ln 2 = {LN2:.3f}; its"
            " gradient is not 0, for each pair pulls with half of its force."
        )
    if figures.skipped:
        sentence += f" {_skipped(figures)}"
    return sentence, f"Wait for step {figures.first - 1 + needed}."


def undecided(figures: Figures, until: int) -> tuple[str, str]:
    """Nothing speaks against learning yet."""
    sentence = f"Chance is not ruled out yet.{_accuracy(figures)}"
    return sentence, f"Wait for step {until}: few pairs, or a learning rate that still rises, say little."


def budget(figures: Figures, allowed: float) -> tuple[str, str]:
    """The winner's error has risen too far."""
    winner, loser = figures.winner_drift or 0.0, figures.loser_drift or 0.0
    sentence = (
        f"From step {figures.first} to {figures.last} the error on winners was {change(winner)} against the"
        f" reference's, more than the budget of {percent(allowed)}; that on losers was {change(loser)}. "
    )
    sentence += (
        "The gap between them grows only because losers get worse faster: the objective sees the gap alone, so both"
        " may rise while the loss falls."
        if loser > winner
        else "Winners get worse faster than losers: the gap moves the wrong way."
    )
    return sentence, (
        "Stop earlier, lower train.optimizer.lr, or raise train.objective.beta, which holds the policy closer to its"
        " reference. Inverted noise (score.visits.inversion) costs winners less."
    )


def saturated(figures: Figures) -> tuple[str, str]:
    """Most pairs are settled."""
    sentence = (
        f"{percent(figures.saturated or 0.0)} of pairs are settled so far (logit above 3.7, root mean square"
        f" {rounded(figures.logit_rms or 0.0)}) that they carry less than 5% of the gradient they began with;"
        f" {percent(figures.opposed or 0.0)} are as far on the wrong side and give nearly all of it. A loss that falls"
        " towards 0 so soon is memory, not better images."
    )
    return sentence, (
        "Lower train.optimizer.lr or train.objective.beta, or stop earlier: see whether held-out accuracy and the"
        " paired evaluation still rise. Few pairs seen often call for fewer steps."
    )


def beta_too_small(figures: Figures, beta: float | None, growth: float | None) -> tuple[str, str]:
    """The loss cannot leave ln 2."""
    sentence = (
        f"The logits are so small (root mean square {rounded(figures.logit_rms or 0.0)}) that the loss cannot leave"
        f" ln 2 = {LN2:.3f}, although the errors of pairs have moved"
        f"{f' by {percent(figures.gap)} of their size' if figures.gap is not None else ''}."
        " With so small a beta nothing holds the policy near its reference."
    )
    sentence += _accuracy(figures)
    if growth is None:
        return sentence, "Raise train.objective.beta."
    target = f", to about {rounded(beta * growth)}" if beta else ""
    return sentence, f"train.objective.beta could grow by a factor of about {rounded(growth)}{target}."


def nothing_learned(figures: Figures, *, moved: bool) -> tuple[str, str]:
    """Accuracy is at chance."""
    sentence = f"The accuracy is not above chance.{_accuracy(figures)}"
    if not moved:
        gap = percent(figures.gap or 0.0) if (figures.gap or 0.0) >= 0.0005 else "less than 0.1%"
        sentence += (
            f" The policy has hardly moved from its reference: the errors of pairs moved by {gap} of their size, the"
            f" logits have a root mean square of {rounded(figures.logit_rms or 0.0)}."
        )
        return sentence, "Train longer or raise train.optimizer.lr, then look at the accuracy, not at the loss."
    sentence += (
        f" The policy does move (logits with a root mean square of {rounded(figures.logit_rms or 0.0)}), but not the"
        " way that the labels point."
    )
    return sentence, (
        "If the interval is wide, train longer or use a larger global_batch. If it stays: the labels may be noise (see"
        " the data card and the minority section of the report), or point the wrong way (check the column map)."
    )


def learning(figures: Figures, evaluations: Sequence[PairedEvaluation], allowed: float | None) -> tuple[str, str]:
    """All is well, and why a loss may not show it."""
    sentence = f"{_progress(figures, evaluations)}{_accuracy(figures)}"
    if evaluations:
        sentence += f" Its images win {interval(evaluations[-1].wins)} of comparisons with those from before training."
    away = 0.0 if figures.plain_loss is None else figures.plain_loss - LN2
    if figures.plain_loss is not None and abs(away) < _NEAR_LN2:
        small = (figures.logit_rms or 0.0) < _SMALL_LOGIT
        why = "the logits are still small" if small else "pairs won and pairs lost at random timesteps cancel out"
        sentence += (
            f" {_loss(figures)} is near ln 2 = {LN2:.3f} because {why} (root mean square"
            f" {rounded(figures.logit_rms or 0.0)}): it can stay there while the model gets better."
        )
    if away > _NEAR_LN2:
        sentence += (
            f" {_loss(figures)} is above ln 2 = {LN2:.3f}: the logits (root mean square"
            f" {rounded(figures.logit_rms or 0.0)}) are larger than the accuracy warrants."
        )
    winner, loser = figures.winner_drift, figures.loser_drift
    if winner is not None and loser is not None and loser > winner > 0.0:
        sentence += (
            f" Both errors rise (winners {change(winner)}, losers {change(loser)}): only the gap between them is"
            " trained."
        )
    if figures.skipped:
        sentence += f" {_skipped(figures)}"
    if allowed is not None and winner is not None and winner > 0.5 * allowed:
        return sentence, f"Watch the error on winners: more than half of its budget of {percent(allowed)} is used."
    if away > _NEAR_LN2:
        return (
            sentence,
            "Go on, or try a lower train.optimizer.lr or train.objective.beta: pairs are judged too surely.",
        )
    return sentence, "Nothing to do. Read accuracy and the paired evaluation; the loss says little."


def _progress(figures: Figures, evaluations: Sequence[PairedEvaluation]) -> str:
    if figures.accuracy and figures.accuracy.low > 0.5:
        return "The policy tells winners from losers better than its reference."
    if evaluations:
        return "Images get better, although the accuracy does not show it."
    return "Nothing is wrong, but this objective has no reference, and so no accuracy to judge by."


def _accuracy(figures: Figures) -> str:
    if figures.accuracy is None:
        return ""
    return f" It puts the winner first in {interval(figures.accuracy)} of {figures.accuracy.n:,} pairs; chance is 50%."


def _loss(figures: Figures) -> str:
    plain, loss = figures.plain_loss or 0.0, figures.loss or 0.0
    return f"The loss{' without weights' if abs(plain - loss) > 1e-6 else ''}, {plain:.4f},"


def _skipped(figures: Figures) -> str:
    steps = figures.applied + figures.skipped
    return f"{figures.skipped} of {steps} steps were skipped, since their gradient was not finite."
