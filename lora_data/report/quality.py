"""The quality histograms, with the configured limits drawn in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lora_data.manifest import Record
from lora_data.report.charts import Axis, histogram
from lora_data.report.run_info import RunInfo


@dataclass(frozen=True, slots=True)
class Panel:
    """A histogram, what it shows and how many values it holds."""

    title: str
    note: str
    chart: Markup
    count: int


def panels(records: Sequence[Record], run: RunInfo) -> list[Panel]:
    """The quality histograms of what was measured, with the configured limits."""
    limits = run.limits
    low, high = limits.get("brightness_range.0"), limits.get("brightness_range.1")
    grey, vivid = limits.get("saturation_range.0"), limits.get("saturation_range.1")
    exposure = {"dark", "bright", "darker_than_scene", "burnt"}
    came = any(r.source_brightness is not None for r in records)
    note = "mean luma, as it came" if came else "mean luma"
    found = [
        _panel("Brightness", note, records, _brightness, exposure, (low, high), lambda _: Axis(0, 255)),
        _panel(
            *("Sharpness by Laplacian", "variance at 512 px height, log scale", records),
            *(lambda r: r.laplacian_variance, {"blur"}, (limits.get("blur_threshold"), None)),
            lambda values: Axis(10, max(10_000, values[-1]), log=True),
        ),
        _panel(
            "Sharpness by re-blur",
            "energy lost to a second blur",
            records,
            lambda r: r.sharpness,
            set(),
            (None, None),
            _auto,
        ),
        _panel(
            *("Detail", "edge score", records, lambda r: r.edge_score, {"detail"}, (limits.get("edge_score"), None)),
            lambda _: Axis(0, 1),
        ),
        _panel(
            *("Saturation", "over the character’s median", records, lambda r: r.saturation_ratio),
            *({"unsaturated", "oversaturated"}, (grey, vivid), lambda _: Axis(0, max(2.5, 1.25 * (vivid or 0)))),
        ),
        _panel(
            *("Face size", "longest side, px", records, lambda r: r.face_size or None, {"small_face"}),
            *(
                (limits.get("min_face_size"), None),
                lambda values: Axis(0, max(256, values[int(0.98 * len(values))])),
            ),
        ),
    ]
    return [panel for panel in found if panel is not None]


def _brightness(record: Record) -> float | None:
    # the filter judges exposure before any correction
    return record.brightness if record.source_brightness is None else record.source_brightness


def _auto(values: Sequence[float]) -> Axis:
    """From the first to the 99th percentile, widened where all is one value."""
    low, high = values[int(0.01 * len(values))], values[int(0.99 * len(values))]
    margin = max(0.05 * (high - low), 0.05 * abs(high), 1e-3)
    return Axis(low - margin if low > margin or low < 0 else 0.0, high + margin)


def _panel(
    title: str,
    note: str,
    records: Sequence[Record],
    value: Callable[[Record], float | None],
    reasons: set[str],
    limits: tuple[float | None, float | None],
    axis: Callable[[Sequence[float]], Axis],
) -> Panel | None:
    kept, here, elsewhere = list[float](), list[float](), list[float]()
    for record in records:
        found = value(record)
        if found is not None:
            (kept if record.active else here if record.reason in reasons else elsewhere).append(found)
    count = len(kept) + len(here) + len(elsewhere)
    if not count:
        return None
    says = f"{title}: {count} measured, {len(kept)} kept, {len(here)} rejected by this limit"
    series = [("kept", kept), ("rejected", here), ("other", elsewhere)]
    return Panel(title, note, histogram(series, axis(sorted(kept + here + elsewhere)), limits, says), count)
