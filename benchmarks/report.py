"""The report: the samples of all rounds, as tables for the terminal and as JSON for a machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.scenarios import Sample, Scenario

REFERENCE = "wsadapter"


@dataclass
class Result:
    """All samples of one server in one scenario; a run that gave none has left its reason in `failures`."""

    scenario: Scenario
    server: str
    loop: str
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def figure(self) -> float:
        return median(sample.figure for sample in self.samples)

    @property
    def lowest(self) -> float:
        return min(sample.figure for sample in self.samples)

    @property
    def highest(self) -> float:
        return max(sample.figure for sample in self.samples)

    @property
    def spread(self) -> float:
        """How far apart the rounds are, as a share of their median: the noise of this figure."""
        return (self.highest - self.lowest) / self.figure if self.figure else 0.0

    @property
    def client_cpu(self) -> float | None:
        shares = [sample.client_cpu for sample in self.samples if sample.client_cpu is not None]
        return median(shares) if shares else None

    def detail(self, name: str) -> float | None:
        values = [sample.details[name] for sample in self.samples if name in sample.details]
        return median(values) if values else None

    def as_json(self, reference: Result | None) -> dict[str, Any]:
        result: dict[str, Any] = {
            "scenario": self.scenario.name,
            "server": self.server,
            "loop": self.loop,
            "unit": self.scenario.unit,
            "higher_is_better": self.scenario.higher_is_better,
            "samples": [dataclasses.asdict(sample) for sample in self.samples],
            "failures": self.failures,
        }
        if self.samples:
            result |= {"median": self.figure, "min": self.lowest, "max": self.highest, "client_cpu": self.client_cpu}
            if reference is not None:
                result["ratio_to_wsadapter"] = self.figure / reference.figure
        return result


def find_reference(result: Result, results: Iterable[Result]) -> Result | None:
    """Ours in the same scenario on the same event loop, which the others are divided by."""
    for other in results:
        is_same = (other.scenario.name, other.loop) == (result.scenario.name, result.loop)
        if is_same and other.server == REFERENCE and other.samples and other.figure:
            return other
    return None


def number(value: float | None) -> str:
    """With as many places as mean something."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def table(scenario: Scenario, results: Sequence[Result]) -> str:
    """One scenario's results, a line for each server."""
    better = "more" if scenario.higher_is_better else "less"
    details = [name for name in scenario.details if name != scenario.unit]
    details = [name for name in details if any(result.detail(name) is not None for result in results)]
    rows = [["server", "loop", scenario.unit, "min–max", f"÷ {REFERENCE}", "client CPU", *details]]
    for result in results:
        if not result.samples:
            rows.append([result.server, result.loop, "failed"])
            continue
        reference = find_reference(result, results)
        rows.append(
            [
                result.server,
                result.loop,
                number(result.figure),
                f"{number(result.lowest)}–{number(result.highest)}" if len(result.samples) > 1 else "–",
                f"{result.figure / reference.figure:.2f}" if reference else "–",
                share(result.client_cpu),
                *(number(result.detail(name)) for name in details),
            ]
        )
    lines = [f"{scenario.title} ({scenario.unit}: {better} is better)", "", *aligned(rows)]
    lines += [
        f"! {result.server} on {result.loop}: {failure}"
        for result in results
        for failure in dict.fromkeys(result.failures)
    ]
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """As a Markdown table, the first two columns to the left and the numbers to the right."""
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [*row, *[""] * (len(widths) - len(row))]
        padded = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    rule = ["-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines.insert(1, f"| {' | '.join(rule)} |")
    return lines


def noise(results: Iterable[Result], before: Sequence[float], after: Sequence[float], rounds: int) -> str:
    """How much the figures can be trusted: how busy the machine was, and how far apart the rounds are."""
    repeated = [result for result in results if len(result.samples) > 1]
    statement = f"Noise: load average {before[0]:.2f} before, {after[0]:.2f} after; the benchmark itself adds up to 2."
    if not repeated:
        return f"{statement} One round: no spread is known, and the figures are no more than a sign of life."
    spreads = sorted(result.spread for result in repeated)
    widest = max(repeated, key=lambda result: result.spread)
    return (
        f"{statement} {rounds} rounds: max − min is {median(spreads):.0%} of the median for the median result, and "
        f"{widest.spread:.0%} for the widest ({widest.scenario.name}, {widest.server} on {widest.loop})."
    )
