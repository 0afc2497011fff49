"""What stands under a picture: its numbers and its verdict."""

from __future__ import annotations

from lora_data.manifest import Record
from lora_data.report.words import ENHANCEMENTS, REVIEWS, answer_label, number, outcome_reason


def verdict(record: Record) -> str:
    """The number that decided against its limit: "61.2 < 80"."""
    if record.value is None:
        return ""
    return against(record.value, record.limit, at_least=record.status == "duplicate")


def against(value: float, limit: float | None, *, at_least: bool = False) -> str:
    """A value against its limit: "61.2 < 80"; ``at_least``: a value that is not below it reads "≥"."""
    if limit is None:
        return number(value)
    sign = "<" if value < limit else ">" if value > limit else "="
    if at_least:
        sign = "≥" if value >= limit else sign
    # a close call must not read "80 < 80"
    digits = next((d for d in range(3, 9) if number(value, d) != number(limit, d) or value == limit), 9)
    return f"{number(value, digits)} {sign} {number(limit, digits)}"


def metrics(record: Record) -> list[tuple[str, str]]:
    """A picture's numbers, as its caption shows them: label and text; what was not measured is left out."""
    size = f"{record.width} × {record.height} px" if record.width and record.height else None
    face = None if not record.face_size else f"{number(record.face_size)} px"
    turn = None if record.face_yaw is None else f"{record.face_yaw:+.0f}°"
    rows: list[tuple[str, str | float | None]] = [
        ("a person", None if record.reviewed is None else REVIEWS.get(record.reviewed, record.reviewed)),
        ("the run found", _found(record)),
        ("frame", None if record.frame is None else str(record.frame)),
        ("size", size),
        ("framing", record.framing),
        ("face", face),
        ("head turned", turn),
        ("brightness", record.brightness),
        ("Laplacian", record.laplacian_variance),
        ("sharpness", record.sharpness),
        ("detail", record.edge_score),
        ("saturation", record.saturation_ratio),
        ("likeness to own", record.core_similarity),
        ("margin", None if record.core_margin is None else f"{record.core_margin:+.3f}"),
    ]
    if record.surplus_to:
        rows += [("nearest kept", record.surplus_to), ("distance to it", verdict(record))]
    for column, label in ENHANCEMENTS.items():
        if getattr(record, column) != "no":
            rows.append((label.lower(), changed(record, column)))
    return [(k, v if isinstance(v, str) else number(v)) for k, v in rows if v is not None]


def changed(record: Record, column: str) -> str:
    """What an enhancement did to a picture, in a line: "applied, gain 1.8, hue 0.4°"."""
    parts = [str(getattr(record, column)).replace("_", " ")]
    gain, shift, review = gain_of(record, column), shift_of(record, column), review_of(record, column)
    parts += [] if gain is None else [f"gain {number(gain)}"]
    parts += [] if shift is None else [f"hue {number(shift)}°"]
    parts += [] if review is None else [review.lower()]
    return ", ".join(parts)


def why(record: Record, column: str) -> str:
    """Why an enhancement was done, or not: its reason, with the value that broke a limit."""
    reason = getattr(record, f"{column}_reason")
    if not reason:
        return ""
    value, limit = getattr(record, f"{column}_value", None), getattr(record, f"{column}_limit", None)
    text = outcome_reason(reason)
    return text if value is None else f"{text}: {against(value, limit)}"


def shift_of(record: Record, column: str) -> float | None:
    """The 95th percentile of the hue shift that an enhancement made, degrees."""
    return getattr(record, f"{column}_hue_shift")


def gain_of(record: Record, column: str) -> float | None:
    """How much sharper an enhancement made it, a factor; None where the gate did not judge it.

    Colour and matte have none: whether an evener light or a softer contour is better is not measured.
    """
    return getattr(record, f"{column}_gain", None)


def review_of(record: Record, column: str) -> str | None:
    """What a person said about an enhancement; None where nobody said anything."""
    return answer_label(getattr(record, f"{column}_review", None))


def hash_distance(first: Record, second: Record) -> int | None:
    """In how many of 64 bits the perceptual hashes of two pictures differ; None where one has none."""
    if first.phash is None or second.phash is None:
        return None
    return (int(first.phash) ^ int(second.phash)).bit_count()


def _found(record: Record) -> str | None:
    """Who the run took it for, where a person said otherwise."""
    if record.found_character is None:
        return None
    if (record.found_character, record.found_look) == (record.character, record.look):
        return None
    return record.found_character + (f", {record.found_look}" if record.found_look else "")
