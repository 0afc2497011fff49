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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_data.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from upath import UPath

    from lora_data.storage import FilePath

IMAGE_SUFFIXES = frozenset({".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".tga", ".ppm", ".avif"})
MASK_MARKS = ("_mask", "-mask", ".mask", "_matte", "_alpha")
"""``a.png`` with ``a_mask.png`` (or one of the other marks, or ``masks/a.png`` in a folder beside) is one input."""
MASK_FOLDERS = frozenset({"mask", "masks", "matte", "mattes", "alpha"})
MAX_MASKS = 4096
"""Masks of one frame at most: they are compared in pairs. SAM2's generator proposes 3072 before it drops copies."""
MAX_IMAGE_BYTES, MAX_JSON_BYTES, MAX_CAPTION_BYTES = 1 << 30, 64 << 20, 1 << 20
"""Larger files are not read. 100 Mpx of 16-bit RGBA are 800 MB without compression; the masks of a 4K frame a few MB
(parsed JSON takes up to 25 times its bytes)."""
_LONGEST_NAME = 200


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
    path: FilePath
    mask: FilePath | None = None
    annotations: FilePath | None = None
    index: int | None = None
    caption: FilePath | None = None
    sidecar: FilePath | None = None

    @property
    def key(self) -> str:
        """The sample's name: a pure function of ``source``, unique, made of letters, digits, "_" and "-"."""
        return key_of(self.source)

    @property
    def files(self) -> tuple[FilePath, ...]:
        """Every file that it is made of."""
        return tuple(p for p in (self.path, self.mask, self.annotations, self.caption, self.sidecar) if p is not None)

    def read(self) -> dict[FilePath, bytes]:
        """The content of each of its files.

        Raises:
            OSError: A file cannot be read.
            ImageError: ``huge_file``: a file is larger than is read.
        """
        limits = {self.annotations: MAX_JSON_BYTES, self.sidecar: MAX_JSON_BYTES, self.caption: MAX_CAPTION_BYTES}
        found: dict[FilePath, bytes] = {}
        for path in self.files:
            size, limit = path.stat().st_size, limits.get(path, MAX_IMAGE_BYTES)
            if size > limit:
                raise ImageError("huge_file", f"{path.name} has {size} bytes, at most {limit} are read")
            found[path] = path.read_bytes()
        return found

    def digest(self, digests: Mapping[FilePath, str]) -> str:
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
        ignored: What is neither an image nor part of one, relative paths: other files, links that lead nowhere, pipes
            and the like; with a "/" at the end folders that cannot be read and links to folders.
    """

    sources: tuple[Source, ...]
    ignored: tuple[str, ...]


def key_of(source: str) -> str:
    """The key of a source path.

    A plain name (``film_000123_i2.png``) keeps its stem. Anything that the stem alone does not tell (folders, other
    suffixes, characters that a shard cannot hold) adds eight hex digits of the path's SHA-256, or sixteen where
    letters are lost: many names may then look alike. Two names can still be made to meet; `discover` refuses them.
    """
    path, _, mask = source.partition("#")
    stem, dot, suffix = path.rpartition(".")
    if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", stem) and dot and suffix == "png" and not mask:
        return stem
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", (stem or suffix) + (f"-m{mask}" if mask else "")).strip("-")
    lost = len(slug) > 64 or re.search(r"[^A-Za-z0-9_./#-]", source) is not None
    digest = hashlib.sha256(source.encode()).hexdigest()[: 16 if lost else 8]
    return f"{slug[-64:]}-{digest}" if slug else digest


def discover(folder: FilePath, exclude: Path | None = None) -> Discovery:
    """List the inputs of a folder, recursively; symbolic links to folders and hidden names are not followed.

    Args:
        folder: INPUT, here or behind a URL.
        exclude: A folder below it to leave out (OUT).

    Raises:
        ConfigError: ``folder`` is not a folder, or holds no image, or two inputs would have one key.
    """
    if not folder.is_dir():
        raise ConfigError(f"INPUT must be a folder, got {folder}")
    folders, odd = _walk(folder, exclude) if isinstance(folder, Path) else _listed(folder)
    images = {p for files in folders.values() for p in files if p.suffix.lower() in IMAGE_SUFFIXES}
    taken: set[FilePath] = set()
    masks = _pair_masks(images)
    taken.update(masks.values())
    there = {path for files in folders.values() for path in files}
    sources: list[Source] = []
    for path in sorted(images - taken, key=_parts):
        name = _relative(path, folder)
        beside, text = path.with_suffix(".json"), path.with_suffix(".txt")
        caption = text if text in there else None
        taken.add(path)
        if caption is not None:
            taken.add(caption)
        if beside in there:
            taken.add(beside)
            count = count_annotations(beside)
            if count is not None:
                sources += [
                    Source(source=f"{name}#{i}", path=path, annotations=beside, index=i, caption=caption)
                    for i in range(count if count <= MAX_MASKS else 0)
                ] or [Source(source=name, path=path, annotations=beside, caption=caption)]
                continue
            sources.append(Source(source=name, path=path, mask=masks.get(path), caption=caption, sidecar=beside))
            continue
        sources.append(Source(source=name, path=path, mask=masks.get(path), caption=caption))
    if not sources:
        raise ConfigError(
            f"INPUT holds no image: {folder} (searched recursively for {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    ignored = [_relative(p, folder) for files in folders.values() for p in files if p not in taken]
    by_key: dict[str, Source] = {}
    for source in sources:
        other = by_key.setdefault(source.key, source)
        if other is not source:
            raise ConfigError(f"rename one: {other.source!r} and {source.source!r} would both be {source.key!r}")
    return Discovery(tuple(by_key[key] for key in sorted(by_key)), (*ignored, *odd))


def _walk(folder: Path, exclude: Path | None) -> tuple[dict[FilePath, list[FilePath]], list[str]]:
    """The files by folder, and what is there beside files and folders.

    `os.walk` recurses (Python 3.11 and earlier) and is silent about folders that it cannot read.
    """
    folders: dict[FilePath, list[FilePath]] = {}
    odd: list[str] = []
    left_out = exclude.stat() if exclude is not None and exclude.exists() else None
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        inner: list[Path] = []
        try:
            if left_out is not None and os.path.samestat(here.stat(), left_out):
                continue
            with os.scandir(here) as entries:
                listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            odd.append(_relative(here, folder) + "/")
            continue
        folders[here] = []
        for entry in listed:
            path = here / entry.name
            if entry.is_dir(follow_symlinks=False):
                inner.append(path)
            elif _leads(entry, os.DirEntry[str].is_file):
                folders[here].append(path)
            else:
                odd.append(_relative(path, folder) + ("/" if _leads(entry, os.DirEntry[str].is_dir) else ""))
        waiting += reversed(inner)
    return folders, sorted(odd)


def _listed(folder: UPath) -> tuple[dict[FilePath, list[FilePath]], list[str]]:
    """The same of a folder behind a URL, from one listing."""
    folder.fs.invalidate_cache()
    folders: dict[FilePath, list[FilePath]] = {folder: []}
    odd: list[str] = []
    top = folder.path.rstrip("/")
    for path in sorted(folder.fs.find(top)):
        parts = path.removeprefix(top).strip("/").split("/")
        if {"", ".", ".."} & set(parts):  # a store allows such names, and no path leads there
            odd.append("/".join(parts))
            continue
        if any(part.startswith(".") for part in parts):
            continue
        file = folder.joinpath(*parts)
        folders.setdefault(file.parent, []).append(file)
    return folders, odd


def _leads(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether an entry, or what it links to, is of a kind; a link that cannot be followed is of none."""
    try:
        return kind(entry)
    except OSError:
        return False


def count_annotations(path: FilePath) -> int | None:
    """How many masks a SAM2 mask file lists, or None where the JSON is something else (a sidecar) or unreadable."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            return None
        entries = annotations_in(json.loads(path.read_bytes()))
    except (ValueError, OSError, RecursionError):
        return None
    return None if entries is None else len(entries)


def annotations_in(content: object) -> list[Any] | None:
    """The entries of a SAM2 mask file from its JSON, or None where that is something else."""
    entries = content.get("annotations") if isinstance(content, dict) else content
    return entries if isinstance(entries, list) else None


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
            if abs(value) >= 1 << 53:
                raise ImageError("bad_sidecar", f"{name}: {alias} must be below 2 ** 53, got {value!r}")
            return value
        return None

    def text(key: str, aliases: Iterable[str] = ()) -> str | None:
        for alias in (key, *aliases):
            value = content.get(alias)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                raise ImageError("bad_sidecar", f"{name}: {alias} must be a text or a number, got {value!r}")
            said = str(value)
            if len(said) > _LONGEST_NAME or any(0xD800 <= ord(c) <= 0xDFFF for c in said):
                raise ImageError(
                    "bad_sidecar",
                    f"{name}: {alias} must be a text of at most {_LONGEST_NAME} whole characters, got {value!r}",
                )
            return said
        return None

    return Numbers(
        number("frame"), number("instance"), text("track", ("track_id", "object_id")), text("scene", ("shot",))
    )


def _parts(path: FilePath) -> tuple[str, ...]:
    return tuple(path.parts)


def _relative(path: FilePath, folder: FilePath) -> str:
    if not isinstance(path, Path) or not isinstance(folder, Path):
        return "/".join(path.parts[len(folder.parts) :])
    # Names that are no UTF-8 become readable escapes: a table and a shard hold text. A backslash is doubled there, and
    # where a name holds such an escape as it is: otherwise two files could have one name.
    name = os.fsencode(path.relative_to(folder).as_posix())
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = ""
    if text and "\\x" not in text:
        return text
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def _pair_masks(images: set[FilePath]) -> dict[FilePath, FilePath]:
    """Map an image to its mask file: by a mark on the stem, by a masks folder beside, or inside the image's folder."""
    by_stem: dict[tuple[FilePath, str], list[FilePath]] = defaultdict(list)
    for path in sorted(images, key=_parts):
        by_stem[path.parent, path.stem.lower()].append(path)
    pairs: dict[FilePath, FilePath] = {}
    for path in sorted(images, key=_parts):
        stem = path.stem.lower()
        homes: list[tuple[FilePath, str]] = [
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
