"""What the short words of the table mean to a person."""

from __future__ import annotations

REASONS = {
    # ingest
    "not_an_image": ("Not an image", "the bytes are no picture that can be read"),
    "empty_file": ("Empty file", "zero bytes"),
    "damaged": ("Damaged", "the picture breaks off or does not decode"),
    "too_large": ("Too large", "more pixels than precompute.ingest.max_pixels, or a side above 16383 px"),
    "huge_file": ("Huge file", "the picture, or a file beside it, has more bytes than are read"),
    "unreadable": ("Unreadable", "the file could not be read from disk"),
    "bad_mask": ("Mask does not fit", "mask and picture differ in size or kind"),
    "bad_masks": ("Mask file damaged", "the SAM2 JSON beside the frame could not be used"),
    "no_masks": ("No masks", "the SAM2 JSON beside the frame lists none"),
    "bad_sidecar": ("Sidecar damaged", "the .json beside the picture could not be used"),
    "empty_matte": ("Empty matte", "nothing in the picture is opaque"),
    "empty_mask": ("Empty mask", "the SAM2 mask covers nothing"),
    "background_mask": ("Background", "the mask runs along most of the frame's border"),
    "same_object": ("Same object twice", "another mask of the frame covers the same thing better"),
    "part": ("Part of another", "the mask lies inside a larger one"),
    "small_mask": ("Tiny mask", "longest side in px, too small to be a character"),
    # filter
    "no_matte": ("No matte", "share of the canvas that is opaque: this is a rectangle, not a cut-out"),
    "small": ("Small", "longest side of the character, px"),
    "speck": ("Speck", "share of the canvas that the matte covers"),
    "fragments": ("Fragments", "unconnected parts of the matte"),
    "flat": ("Flat", "levels of luma between the 5th and 95th percentile"),
    "dark": ("Dark", "mean luma, 0 to 255"),
    "bright": ("Bright", "mean luma, 0 to 255"),
    "darker_than_scene": ("Darker than its scene", "mean luma over that of its neighbours"),
    "burnt": ("Burnt out", "share of the character without any colour left"),
    "blur": ("Blurred", "Laplacian variance at 512 px height"),
    "detail": ("Detail lost", "share of detail that a strong re-blur takes away"),
    "unsaturated": ("Unsaturated", "saturation over the character's median"),
    "oversaturated": ("Oversaturated", "saturation over the character's median"),
    "small_face": ("Small face", "longest side of the face, px"),
    # deblur
    "sharp_neighbour": ("Sharp neighbour", "frames to a sharp picture of the same track"),
    # identity, deduplicate, select
    "unknown": ("Nobody known", "likeness to the nearest character: an extra, a prop or background"),
    "near_duplicate": ("Near duplicates", "structural similarity (SSIM) to the one that was kept"),
    "crowded": ("Beyond the number wanted", "distance to the nearest one kept, which shows much the same"),
    # a person
    "person": ("Rejected by a person", "decided on the review page"),
    # flags of what is kept
    "far_from_core": ("Unlike its character", "likeness to the mean of its character"),
    "nearer_to_other": ("Hardly nearer to its own character than to another", "how much nearer it is"),
    "same_frame": ("Two of one name in one frame", "one of them must be somebody else"),
}
"""Reason: label, and what its value measures."""

STATUS = {
    "kept": "kept",
    "surplus": "surplus",
    "duplicate": "duplicate",
    "rejected": "rejected",
    "error": "error",
}
"""Status, in the order in which it is shown: label."""

ENHANCEMENTS = {
    "face_restore": "Face restoration",
    "upscale": "Super-resolution",
    "deblur": "Deblurring",
    "matte": "Matte",
    "colour": "Colour",
}
"""Column: label."""

OUTCOMES = {
    "taken_back": (
        "Taken back",
        "measured against the original and undone: right is what the network made of what is on the left",
    ),
    "proposed": ("Proposed", "nothing is changed until a person says so"),
    "applied": ("Applied", "the finished pictures have it"),
}
"""Outcome other than "no": label, meaning."""

BACK = {
    "hue": "hue moved",
    "structure": "structure changed",
    "low_frequencies": "light or form changed, PSNR",
    "no_gain": "too little sharper",
    "identity": "another face",
    "landmarks": "features of the face moved",
    "network": "the network’s output was no picture",
    "memory": "memory ran out",
    "person": "refused by a person",
    "motion": "motion blur is proved",
    "small": "too small to measure",
}
"""Why an enhancement was taken back, proposed or done: what the number beside it measures."""

REVIEWS = {"reject": "rejected", "restore": "restored"}
"""What a person said about a picture: label."""

ANSWERS = {"accept": "Accepted by a person", "refuse": "Refused by a person"}
"""What a person said about an enhancement: label."""

STAGES = {
    "ingest": "Read",
    "matte": "Matte",
    "exposure": "Exposure",
    "cast": "Colour cast",
    "faces": "Faces",
    "motion": "Motion",
    "white_balance": "White balance",
    "face_restore": "Face restoration",
    "upscale": "Super-resolution",
    "deblur": "Deblurring",
    "colour": "Colour",
    "background": "Background",
    "metrics": "Metrics",
    "fingerprint": "Fingerprint",
    "embed": "Appearance",
    "identity": "Identity",
    "references": "References",
    "decide": "A person",
    "filter": "Filter",
    "consistency": "Consistency",
    "deduplicate": "Deduplicate",
    "select": "Select",
    "write": "Write",
}
"""Stage: label, in the order of a run."""


def readable(word: str) -> str:
    """A short stable word as a person would write it: ``too_large`` becomes "Too large"."""
    text = word.replace("_", " ").strip()
    return text[:1].upper() + text[1:] or "No reason given"


def reason_label(word: str) -> str:
    """The label of a reason; an unknown one is spelt out."""
    return REASONS[word][0] if word in REASONS else readable(word)


def reason_meaning(word: str) -> str:
    """What a reason's value measures; empty where it is unknown."""
    return REASONS[word][1] if word in REASONS else ""


def stage_label(word: str) -> str:
    """The label of a stage; an unknown one is spelt out."""
    return STAGES.get(word) or ENHANCEMENTS.get(word) or readable(word)


def outcome_reason(text: str) -> str:
    """Why an enhancement was done or not, spelt out; what is unknown, or a sentence already, stays."""
    return ", ".join(BACK.get(part, part.replace("_", " ")) for part in text.split(", "))


def answer_label(word: str | None) -> str | None:
    """What a person said about an enhancement."""
    return None if word is None else ANSWERS.get(word) or readable(word)


def pass_label(name: str) -> str:
    """A pass's stages as a person would write them: "white_balance + deblur" becomes "White balance + Deblurring"."""
    return " + ".join(stage_label(part) for part in name.split(" + "))


def status_order(status: str) -> tuple[int, str]:
    """Where a status stands among the others; unknown ones last."""
    return next((i for i, name in enumerate(STATUS) if name == status), len(STATUS)), status


def number(value: float, digits: int = 3) -> str:
    """A number at the precision a person compares at: 1,240, 312, 61.2, 0.953."""
    size = abs(value)
    if float(value).is_integer() or size >= 10 ** (digits - 1):
        places = 0 if float(value).is_integer() else max(0, digits - len(str(int(size))))
    else:
        places = digits - len(str(int(size))) if size >= 1 else digits
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
