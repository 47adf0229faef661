"""The decision as a page for people."""

from prefopt import __version__
from prefopt.gate.checks import Check
from prefopt.gate.decision import Decision
from prefopt.page.environment import page_environment
from prefopt.page.formats import minus, percent

QUESTIONS = {
    "win_rate": "Wins more often",
    "slice": "Holds in the slice",
    "accuracy": "Agrees with held-out pairs",
    "group": "Agrees with the group",
    "distance": "Distance from the base",
    "diversity": "Diversity that is left",
}
ANSWERS = {"passed": "passed", "failed": "failed", "not_judged": "too few to judge"}
_GAINS = {"accuracy", "group"}


def render_html(decision: Decision) -> str:
    """decision.html: nothing loaded from anywhere, the same bytes for the same decision."""
    return (
        page_environment("prefopt.gate")
        .get_template("decision.html.j2")
        .render(
            version=__version__,
            decision=decision,
            verdict=sentence(decision),
            title=f"Night {decision.number}: {'better' if decision.verdict == 'better' else 'not better'}",
            rows=[{"check": check, "asked": QUESTIONS[check.name], "answer": ANSWERS[check.answer]} for check in checks]
            if (checks := decision.checks)
            else [],
            wanted=wanted,
            figure=figure,
            incumbent=incumbent(decision),
        )
    )


def incumbent(decision: Decision) -> str:
    """Whom the challenger is compared with."""
    return "the champion" if decision.champion else "the base"


def sentence(decision: Decision) -> str:
    """The decision in one sentence."""
    main = decision.checks[0]
    told = (
        f"On {main.prompts:,} prompts the challenger wins {percent(main.value)} of comparisons with"
        f" {incumbent(decision)} on {main.of} (one-sided p {main.p:.2g}, level {main.level:.2g})"
    )
    if decision.verdict == "better":
        audit = ", but the audit speaks against it, so a person has to decide" if decision.needs_person else ""
        return f"{told}, and no bound is broken: it is better{audit}."
    broken = ", ".join(dict.fromkeys(described(check) for check in decision.failed))
    return f"{told}: it is not shown to be better. What failed: {broken}."


def described(check: Check) -> str:
    """A check in a few words."""
    return f"{QUESTIONS[check.name].lower()} ({check.of})"


def figure(check: Check, value: float | None) -> str:
    """A check's figure as it is read: shares in percent, gains with their sign."""
    if value is None:
        return "-"
    if check.name in _GAINS:
        return minus(f"{100.0 * value:+.1f}%")
    return percent(value)


def wanted(check: Check) -> str:
    """The bound in words."""
    side = "at most" if check.name == "distance" else "above" if check.name == "win_rate" else "at least"
    return f"{side} {figure(check, check.bound)}"
