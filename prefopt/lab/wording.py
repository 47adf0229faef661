"""How figures over seeds are written."""

from collections.abc import Callable, Sequence

from prefopt.evaluation.statistics import Estimate
from prefopt.lab.analysis.claims import Claim, Kind
from prefopt.lab.analysis.cost import Reached
from prefopt.lab.analysis.tuning import Tuned, equally_tuned
from prefopt.lab.grid import Place
from prefopt.page.formats import minus

_MOST_GAPS = 8


def figure(found: Estimate | None, seeds: int = 0) -> str:
    """0.912 (0.900 to 0.924); the number of seeds follows where it is not `seeds`, if that is given."""
    return _written(found, lambda value: minus(f"{value:.3f}"), seeds)


def signed(found: Estimate | None, seeds: int = 0) -> str:
    """+0.012 (-0.003 to +0.027)."""
    return _written(found, lambda value: minus(f"{value:+.3f}"), seeds)


def share(found: Estimate | None, seeds: int = 0) -> str:
    """94% (90% to 98%)."""
    return _written(found, lambda value: minus(f"{100.0 * value:.0f}%"), seeds)


def amount(found: Estimate | None, seeds: int = 0) -> str:
    """12,300 (12,000 to 12,600)."""
    return _written(found, lambda value: minus(f"{value:,.0f}"), seeds)


def p_value(p: float | None) -> str:
    """Two digits; very small ones as a bound."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def counted(number: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def claimed(claim: Claim, seeds: int) -> str:
    """What was measured of a claim."""
    return _CLAIMED[claim.kind](claim.measured, seeds)


def bound(claim: Claim) -> str:
    """The side and the bound of a claim."""
    shown = f"{100.0 * claim.bound:.0f}%" if claim.kind == "share" else f"{claim.bound:g}"
    return f"{claim.side} {shown}"


def reach(found: Reached, seeds: int) -> str:
    """A share of cost, or that it was never reached."""
    if found.share is None:
        return "never" if not found.reaching else "not in every seed"
    return f"{'at most ' if found.at_most else ''}{share(found.share, seeds)}"


def by_seed(found: Reached) -> str:
    """A share for each seed."""
    told = (f"{seed}: {'never' if one is None else f'{100.0 * one:.0f}%'}" for seed, one in found.shares.items())
    return ", ".join(told)


def gaps(missing: Sequence[Place]) -> list[str]:
    """Cells that are missing, seeds of one method and noise together; of many the first."""
    grouped: dict[tuple[str, str], list[int]] = {}
    for method, noise, seed in missing:
        grouped.setdefault((method, noise), []).append(seed)
    told = [
        f"{method} at {noise}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        for (method, noise), seeds in grouped.items()
    ]
    return [*told[:_MOST_GAPS], "and others"] if len(told) > _MOST_GAPS else told


def equal_tries(found: Sequence[Tuned]) -> str:
    """Whether methods had equally many candidates."""
    if not found:
        return ""
    if equally_tuned(found):
        return f"Every method had {counted(len(found[0].candidates), 'candidate')}."
    told = listed([f"{one.method} {len(one.candidates)}" for one in found])
    return f"**Methods were not tuned alike**: candidates, or their seeds, differ in number ({told})."


_CLAIMED: dict[Kind, Callable[[Estimate | None, int], str]] = {"share": share, "figure": figure, "difference": signed}


def _written(found: Estimate | None, write: Callable[[float], str], seeds: int) -> str:
    if found is None:
        return "-"
    notes = [] if found.low is None or found.high is None else [f"{write(found.low)} to {write(found.high)}"]
    if seeds and found.n != seeds:
        notes.append(f"{found.n} seed{'s' if found.n != 1 else ''}")
    return write(found.value) + (f" ({'; '.join(notes)})" if notes else "")
