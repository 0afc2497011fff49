"""Charts as inline SVG: no script, no library, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from lora_data.report.words import number

BINS = 32


@dataclass(frozen=True, slots=True)
class Axis:
    """A histogram's axis.

    Args:
        low: Left end.
        high: Right end; what lies beyond either end is drawn in the last bin.
        log: Equal steps are equal factors; both ends are then above zero.
    """

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the left end .. 1 at the right."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Round values to label, at most seven."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        raw = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw)
        return [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]


def histogram(
    series: Sequence[tuple[str, Sequence[float]]], axis: Axis, limits: tuple[float | None, float | None], label: str
) -> Markup:
    """A stacked histogram with its limits drawn in.

    Args:
        series: CSS class and values, from the bottom up.
        axis: The axis.
        limits: Below the first and above the second is out; None: no such limit.
        label: What a screen reader says.
    """
    width, height, top, base = 300.0, 128.0, 18.0, 108.0
    stacks = [[0] * len(series) for _ in range(BINS)]
    for index, (_, values) in enumerate(series):
        for value in values:
            stacks[min(BINS - 1, int(axis.place(value) * BINS))][index] += 1
    tallest = max((sum(stack) for stack in stacks), default=0) or 1
    parts: list[str] = []
    low, high = limits
    if low is not None:
        parts.append(
            f'<rect class="out" x="0" y="{top:g}" width="{axis.place(low) * width:.1f}" height="{base - top:g}"/>'
        )
    if high is not None:
        x = axis.place(high) * width
        parts.append(f'<rect class="out" x="{x:.1f}" y="{top:g}" width="{width - x:.1f}" height="{base - top:g}"/>')
    step = width / BINS
    for index, (name, _) in enumerate(series):
        path = ""
        for number_of_bin, stack in enumerate(stacks):
            if stack[index]:
                lower, upper = sum(stack[:index]), sum(stack[: index + 1])
                y0, y1 = (base - (base - top) * count / tallest for count in (lower, upper))
                path += f"M{number_of_bin * step + 0.5:.1f} {y0:.1f}V{y1:.1f}h{step - 1:.1f}V{y0:.1f}z"
        if path:
            parts.append(f'<path class="{escape(name)}" d="{path}"/>')
    parts.append(f'<path class="axis" d="M0 {base:g}H{width:g}"/>')
    for tick in axis.ticks():
        x = axis.place(tick) * width
        anchor = "start" if x < 6 else "end" if x > width - 18 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{height - 6:g}" text-anchor="{anchor}">{number(tick)}</text>')
    for limit in limits:
        if limit is not None:
            x = axis.place(limit) * width
            anchor = "start" if x < width / 2 else "end"
            shift = 4 if anchor == "start" else -4
            parts.append(f'<path class="limit" d="M{x:.1f} 4V{base:g}"/>')
            parts.append(
                f'<text class="limit" x="{x + shift:.1f}" y="12" text-anchor="{anchor}">{number(limit)}</text>'
            )
    body = "".join(parts)
    return Markup(
        f'<svg class="hist" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def flow_band(total: int, before: int, drops: Sequence[tuple[str, int]]) -> Markup:
    """One step of the flow: a band as wide as what enters, from which what leaves peels off to the right.

    Args:
        total: What the full width stands for.
        before: What enters.
        drops: CSS class and number of what leaves.
    """
    scale = 1000 / max(total, 1)
    after = (before - sum(count for _, count in drops)) * scale
    parts: list[str] = []
    edge = before * scale
    for name, count in drops:
        bend = f"C{edge:.2f} 30 {after:.2f} 22 {after:.2f} 48"
        parts.append(f'<path class="{escape(name)}" d="M{after:.2f} 0H{edge:.2f}{bend}z"/>')
        edge -= count * scale
    parts.append(f'<path class="kept" d="M0 0H{after:.2f}V48H0z"/>')
    return _stretched("band", 48, "".join(parts))


def flow_end(total: int, counts: Sequence[int]) -> Markup:
    """What is left at the end of the flow, in parts with a gap between them."""
    scale, x, body = 1000 / max(total, 1), 0.0, ""
    for count in counts:
        body += f'<rect class="kept" x="{x:.2f}" y="0" width="{max(count * scale - 2, 0.5):.2f}" height="48"/>'
        x += count * scale
    return _stretched("band", 48, body)


def parts_bar(parts: Sequence[tuple[str, int]]) -> Markup:
    """A bar of parts, full width: CSS class and number each."""
    total = sum(count for _, count in parts) or 1
    x, body = 0.0, ""
    for name, count in parts:
        width = 1000 * count / total
        if count:
            body += f'<rect class="{escape(name)}" x="{x:.2f}" y="0" width="{width:.2f}" height="8"/>'
        x += width
    return _stretched("parts", 8, body)


def columns(counts: Sequence[int], label: str) -> Markup:
    """A tiny column chart; ``label`` is what a screen reader says."""
    return occupied(counts, counts, label)


def occupied(every: Sequence[int], kept: Sequence[int], label: str) -> Markup:
    """A tiny column chart of what there is, pale, and what of it was kept, solid; places with nothing have a line.

    Args:
        every: Counts, from the left.
        kept: As many, none larger.
        label: What a screen reader says.
    """
    tallest, step, body = max(every, default=0) or 1, 1000 / max(len(every), 1), ""
    gap = min(12.0, step / 10)
    for index, counts in enumerate(zip(every, kept, strict=True)):
        bars = [("none", 0.6)] if not counts[0] else []
        # one of three hundred must still be seen
        bars += [(name, max(40 * n / tallest, 2.5)) for name, n in zip(("all", "kept"), counts, strict=True) if n]
        for name, height in bars if counts[0] != counts[1] else bars[-1:]:
            body += (
                f'<rect class="{name}" x="{index * step + gap:.1f}" y="{40 - height:.2f}" '
                f'width="{step - 2 * gap:.1f}" height="{height:.2f}"/>'
            )
    return _stretched("columns", 40, body, label)


def _stretched(name: str, height: int, body: str, label: str | None = None) -> Markup:
    """An SVG 1000 units wide that takes the width it gets; hidden from readers where its numbers stand beside it."""
    says = 'aria-hidden="true"' if label is None else f'role="img" aria-label="{escape(label)}"'
    return Markup(f'<svg class="{name}" viewBox="0 0 1000 {height}" preserveAspectRatio="none" {says}>{body}</svg>')
