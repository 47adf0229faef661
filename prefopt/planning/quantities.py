"""Numbers as people read them."""

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float) -> str:
    """A count: 204,800."""
    return f"{round(value):,}"


def amount(value: float, unit: str = "") -> str:
    """Three digits and a prefix: 6.76 TFLOP, 860 M. Empty for nothing of a unit."""
    if not value and unit:
        return ""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{_three(value / size)} {prefix}{unit}"
    return f"{value:g} {unit}".rstrip()


def gigabytes(nbytes: float) -> str:
    """Bytes on a disk: 26.8 GB, or MB below a tenth of that."""
    return f"{_three(nbytes / 1e9)} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """A time: 40 s, 12 min, 3.4 h, 12 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def hours(seconds: float) -> str:
    """A time in hours; empty for none."""
    return _three(seconds / 3600) if seconds else ""


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"
