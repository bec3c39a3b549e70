"""Numbers as people read them: rounded, grouped, with their sign, their interval and their count."""

import math

from reproductions.reporting.energy import Energy
from reproductions.reporting.findings import Measurement, Report

ROUNDED = 1e-12
NARROW = "\N{NO-BREAK SPACE}"


def figure(value: float | int | None) -> str:
    """Write a number: one decimal from 100, two from 1, three below that, two significant digits below 0.01.

    What is left of rounding, below 1e-12, is 0.
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    value = 0.0 if abs(value) < ROUNDED else value
    size = abs(value) if abs(value) >= 0.01 else float(f"{abs(value):.1e}")
    decimals = (
        1 if size >= 100 else 2 if size >= 1 else 3 if size >= 0.01 or size == 0 else 1 - math.floor(math.log10(size))
    )
    return f"{value:.{decimals}f}".replace("-", "−")


def signed(value: float | int) -> str:
    """Write a difference, with its sign."""
    return "+" + figure(value) if value >= ROUNDED else figure(value)


def interval(measurement: Measurement) -> str:
    """Write the interval, or say why there is none."""
    low, high = measurement.low, measurement.high
    if low is not None and high is not None:
        return f"{figure(low)} to {figure(high)}"
    if measurement.sampled is None:
        return "one seed"
    low, high = measurement.sampled
    return f"{figure(low)} to {figure(high)} over samples"


def duration(seconds: float | int) -> str:
    """Write a time."""
    if seconds < 59.95:
        return f"{seconds:.1f}{NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min {rest:02d}{NARROW}s"
    return f"{minutes // 60}{NARROW}h {minutes % 60:02d}{NARROW}min"


def count(value: float | int | None, unit: str = "") -> str:
    """Write a whole number with its thousands apart, and its unit after it."""
    if value is None:
        return "–"
    return f"{value:,.0f}".replace(",", NARROW) + (NARROW + unit if unit else "")


def energy(taken: Energy | None) -> str:
    """Say what a command took, by what took it."""
    if taken is None:
        return "not reported by this machine"
    said = ", ".join(f"{joules / 3600:.3g}{NARROW}Wh {name}" for name, joules in taken.joules.items())
    runs = "" if taken.runs == 1 else f" of {taken.runs} runs"
    return f"{said}, in {duration(taken.seconds)}{runs} of this command, with whatever else ran on the machine"


def sample_counts(report: Report, metric: str) -> str:
    """Say how many samples a metric was measured with, and against how many real images."""
    found = [row.measured[metric] for row in report.rows if row.measured and metric in row.measured]
    pairs = dict.fromkeys((m.n_fake, m.n_real) for m in found if m.n_fake is not None)
    said = [f"{count(n_fake)} samples" + against(n_real) for n_fake, n_real in pairs]
    return "; ".join(said)


def against(n_real: int | None) -> str:
    """Name the real images that samples were measured against, if any."""
    return "" if n_real is None else f" against {count(n_real)} real images"
