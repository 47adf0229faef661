"""Which methods wait because a candidate of their tuning fails, and what can be done."""

from collections.abc import Mapping

from prefopt.config.lab import LabConfig
from prefopt.errors import PrefoptError
from prefopt.lab.cells import Cell, as_overrides

Failed = Mapping[Cell, PrefoptError]


def waiting_methods(lab: LabConfig, failed: Failed) -> dict[str, list[Cell]]:
    """By method, the failed tuning cells without which its settings cannot be chosen: its own, or those of the method
    whose settings it takes."""
    tuning = [cell for cell in failed if cell.candidate is not None]
    found = {
        name: [cell for cell in tuning if cell.method == (method.like or name)] for name, method in lab.methods.items()
    }
    return {name: cells for name, cells in found.items() if cells}


def advice(lab: LabConfig, failed: Failed) -> str:
    """In words; empty where no method waits."""
    waiting = waiting_methods(lab, failed)
    return " ".join(_told(lab, method, waiting, failed) for method in waiting if lab.methods[method].like is None)


def _told(lab: LabConfig, method: str, waiting: Mapping[str, list[Cell]], failed: Failed) -> str:
    cells = waiting[method]
    like = [name for name in waiting if lab.methods[name].like == method]
    numbers = list(dict.fromkeys(cell.candidate for cell in cells if cell.candidate is not None))
    tried = [f"{number} ({', '.join(as_overrides(lab.candidates(method)[number]))})" for number in numbers]
    place = "tuning.candidates" if lab.methods[method].tune is None else f"methods.{method}.tune"
    others = "" if lab.methods[method].tune else ", for all methods that are tuned by it,"
    errors = " ".join(f"{cell.title}: {failed[cell]}" for cell in cells)
    return (
        f"No grid cell of {', '.join(map(repr, [method, *like]))} can begin, for {method!r} has no outcome of candidate"
        f" {', '.join(tried)}. {errors} If it fails again, change it in {place}{others} to one that can be trained, for"
        " example with a lower learning rate; every method needs equally many candidates."
    )
