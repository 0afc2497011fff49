"""Find the inputs in a folder: which files are images, which belong to them, and what their names say.

An input is an image file, or one mask of a SAM2 mask file (see sam2.py). Masks, captions and sidecars are parts of an
input, never inputs of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_data.errors import ConfigError, ImageError

IMAGE_SUFFIXES = frozenset({".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".tga", ".ppm", ".avif"})
MASK_MARKS = ("_mask", "-mask", ".mask", "_matte", "_alpha")
"""``a.png`` with ``a_mask.png`` (or one of the other marks, or ``masks/a.png`` in a folder beside) is one input."""
MASK_FOLDERS = frozenset({"mask", "masks", "matte", "mattes", "alpha"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input.

    Args:
        source: Path relative to INPUT with "/"; for a SAM2 mask the frame's image and "#" and the mask's number.
        path: The image file.
        mask: A mask file that belongs to it.
        annotations: A SAM2 mask file, of which ``index`` is this input.
        caption: A caption file.
        sidecar: A JSON file with track, frame or scene.
    """

    source: str
    path: Path
    mask: Path | None = None
    annotations: Path | None = None
    index: int | None = None
    caption: Path | None = None
    sidecar: Path | None = None

    @property
    def key(self) -> str:
        """The sample's name: a pure function of ``source``, unique, made of letters, digits, "_" and "-"."""
        return key_of(self.source)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that it is made of."""
        return tuple(p for p in (self.path, self.mask, self.annotations, self.caption, self.sidecar) if p is not None)

    def digest(self, digests: Mapping[Path, str]) -> str:
        """What ingest makes of it, as one SHA-256: its name (which tells frame, track and scene), which mask it is, the
        names of its files (which messages quote) and their contents.

        Args:
            digests: SHA-256 of each of its files.
        """
        said = [self.source, self.index, *([p.name, digests[p]] for p in self.files)]
        marks = [p is not None for p in (self.mask, self.annotations, self.caption, self.sidecar)]
        return hashlib.sha256(json.dumps([said, marks]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a folder holds.

    Args:
        sources: The inputs, sorted by their key.
        ignored: Files that are neither images nor parts of one, relative paths.
    """

    sources: tuple[Source, ...]
    ignored: tuple[str, ...]


def key_of(source: str) -> str:
    """The key of a source path.

    A plain name (``film_000123_i2.png``) keeps its stem. Anything that the stem alone does not tell (folders, other
    suffixes, characters that a shard cannot hold) adds eight hex digits of the path's SHA-256.
    """
    path, _, mask = source.partition("#")
    stem, dot, suffix = path.rpartition(".")
    if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", stem) and dot and suffix == "png" and not mask:
        return stem
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", (stem or suffix) + (f"-m{mask}" if mask else "")).strip("-")[-64:]
    return f"{slug}-{digest}" if slug else digest


def discover(folder: Path, exclude: Path | None = None) -> Discovery:
    """List the inputs of a folder, recursively; symbolic links to folders and hidden names are not followed.

    Args:
        folder: INPUT.
        exclude: A folder below it to leave out (OUT).

    Raises:
        ConfigError: ``folder`` is not a folder, or holds no image.
    """
    if not folder.is_dir():
        raise ConfigError(f"INPUT must be a folder, got {folder}")
    folders: dict[Path, list[Path]] = defaultdict(list)
    excluded = None if exclude is None else exclude.resolve()
    for root, names, files in os.walk(folder, followlinks=False):
        here = Path(root)
        names[:] = sorted(n for n in names if not n.startswith(".") and (here / n).resolve() != excluded)
        folders[here] = sorted(here / f for f in files if not f.startswith(".") and (here / f).is_file())
    images = {p for files in folders.values() for p in files if p.suffix.lower() in IMAGE_SUFFIXES}
    taken: set[Path] = set()
    masks = _pair_masks(images)
    taken.update(masks.values())
    sources: list[Source] = []
    for path in sorted(images - taken):
        name = _relative(path, folder)
        beside = path.with_suffix(".json")
        caption = path.with_suffix(".txt") if path.with_suffix(".txt") in folders[path.parent] else None
        taken.add(path)
        if caption is not None:
            taken.add(caption)
        if beside in folders[path.parent]:
            taken.add(beside)
            count = count_annotations(beside)
            if count is not None:
                sources += [
                    Source(source=f"{name}#{i}", path=path, annotations=beside, index=i, caption=caption)
                    for i in range(count)
                ] or [Source(source=name, path=path, annotations=beside, caption=caption)]
                continue
            sources.append(Source(source=name, path=path, mask=masks.get(path), caption=caption, sidecar=beside))
            continue
        sources.append(Source(source=name, path=path, mask=masks.get(path), caption=caption))
    if not sources:
        raise ConfigError(
            f"INPUT holds no image: {folder} (searched recursively for {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    ignored = tuple(_relative(p, folder) for files in folders.values() for p in files if p not in taken)
    return Discovery(tuple(sorted(sources, key=lambda s: s.key)), ignored)


def count_annotations(path: Path) -> int | None:
    """How many masks a SAM2 mask file lists, or None where the JSON is something else (a sidecar) or unreadable."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):
        return None
    if isinstance(content, dict):
        content = content.get("annotations")
    return len(content) if isinstance(content, list) else None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a name or a sidecar says: frame and instance number, track, scene."""

    frame: int | None = None
    instance: int | None = None
    track: str | None = None
    scene: str | None = None


def numbers_of(source: str) -> Numbers:
    """Read frame, instance, track and scene from a name such as ``luca_s02_000123_t4_i2.png``.

    The frame is the last run of at least three digits; the others are marked (``i2``, ``inst2``, ``t4``, ``track4``,
    ``s2``, ``scene2``, ``shot2``).
    """
    stem = source.partition("#")[0].rpartition("/")[2].rpartition(".")[0]
    frame = re.findall(r"(?<![A-Za-z0-9])(?:f|frame)?[_-]?(\d{3,9})(?![0-9])", stem, re.IGNORECASE)

    def marked(words: str) -> str | None:
        found = re.search(rf"(?:^|[_.\-])(?:{words})[_-]?(\d{{1,9}})(?![0-9])", stem, re.IGNORECASE)
        return found.group(1) if found else None

    instance = marked("instance|inst|i")
    return Numbers(
        int(frame[-1]) if frame else None,
        int(instance) if instance else None,
        marked("track|t"),
        marked("scene|shot|s"),
    )


def read_sidecar(data: bytes, name: str) -> Numbers:
    """Read track, frame, instance and scene from a JSON sidecar; other keys are left alone.

    Args:
        data: The file's bytes.
        name: Its name, for messages.

    Raises:
        ImageError: ``bad_sidecar``: no JSON object, or a value of the wrong type.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError("bad_sidecar", f"{name} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ImageError("bad_sidecar", f"{name} must hold a JSON object, got {type(content).__name__}")

    def number(key: str, aliases: Iterable[str] = ()) -> int | None:
        for alias in (key, *aliases):
            value = content.get(alias)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise ImageError("bad_sidecar", f"{name}: {alias} must be a whole number, got {value!r}")
            return value
        return None

    def text(key: str, aliases: Iterable[str] = ()) -> str | None:
        for alias in (key, *aliases):
            value = content.get(alias)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                raise ImageError("bad_sidecar", f"{name}: {alias} must be a text or a number, got {value!r}")
            return str(value)
        return None

    return Numbers(
        number("frame"), number("instance"), text("track", ("track_id", "object_id")), text("scene", ("shot",))
    )


def _relative(path: Path, folder: Path) -> str:
    # Names that are no UTF-8 become readable escapes: a table and a shard hold text.
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _pair_masks(images: set[Path]) -> dict[Path, Path]:
    """Map an image to its mask file: by a mark on the stem, by a masks folder beside, or inside the image's folder."""
    by_stem: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in sorted(images):
        by_stem[path.parent, path.stem.lower()].append(path)
    pairs: dict[Path, Path] = {}
    for path in sorted(images):
        stem = path.stem.lower()
        homes: list[tuple[Path, str]] = [
            (path.parent, stem[: -len(m)]) for m in MASK_MARKS if stem.endswith(m) and stem != m
        ]
        if path.parent.name.lower() in MASK_FOLDERS:
            up = path.parent.parent
            homes += [(up, stem), *((up / n, stem) for n in ("images", "image", "rgb", "frames"))]
        for home in homes:
            owner = next((p for p in by_stem.get(home, []) if p != path and p not in pairs), None)
            if owner is not None:
                pairs[owner] = path
                break
    return pairs
