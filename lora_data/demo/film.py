"""Write the demo film: instances, the clean masters behind them, a few SAM2 frames, and the truth about each file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lora_data.demo.body import build
from lora_data.demo.cast import Design, cast
from lora_data.demo.damage import DAMAGE, Cut, finished, hard_alpha, mean_luma, over, recompressed, resize_cut, shrink
from lora_data.demo.lights import LIGHTS, LightName
from lora_data.demo.oddities import BROKEN, JUNK, ODD, backdrop, broken, junk, odd, png, sam2_mask
from lora_data.demo.plan import Take, plan
from lora_data.demo.render import Render, render

Truth = dict[str, object]

_EMPTY: Truth = {
    "identity": None, "shot_id": None, "camera": None, "cam": None, "lighting": None, "clip": None, "minor": False,
    "master": None, "degradations": [], "clean": False, "dof": False, "exact_dup_group": None, "near_dup_group": None,
}  # fmt: skip


def make_film(
    folder: Path,
    *,
    instances: int = 120,
    characters: int = 4,
    seed: int = 0,
    size: int = 360,
    balance: Sequence[float] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render a film of toy characters and damage it as an extraction does.

    Writes ``instances/`` (cut-outs, junk, broken files, unusual formats), ``masters/`` (the clean picture behind each,
    lossless WebP), ``frames/`` (composites with SAM2 masks) and ``truth.jsonl`` (one object per file). Half of the
    instances are damaged, see `lora_data.demo.damage.DAMAGE`. Equal arguments write equal bytes.

    Args:
        folder: Made where it is missing; files of the same names are replaced.
        instances: Character instances, before duplicates (about one in nine more) and junk, broken and odd files.
        characters: 2..12; the first four are drawn by hand, the others invented from ``seed``.
        seed: Changes shots, damage and the invented characters.
        size: Longest side of a master in px, at least 64.
        balance: One positive weight per character; equal where None.
        workers: Processes that render; they change no byte. More than one needs an importable ``__main__``.
        progress: Called with (pictures done, pictures in all).

    Raises:
        ValueError: An argument is out of range.
    """
    weights = [1.0] * characters if balance is None else [float(w) for w in balance]
    people = cast(characters, seed)
    if len(weights) != characters or min(weights) <= 0:
        raise ValueError(f"balance must be {characters} positive weights, got {balance}")
    if instances < characters:
        raise ValueError(f"instances must be at least {characters}, one per character, got {instances}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if size < 64:
        raise ValueError(f"size must be at least 64, got {size}")
    for name in ("instances", "masters", "frames"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    takes = plan(list(people), weights, instances, seed)
    film = _Film(folder, size, seed, takes)
    jobs = [(people[take.identity], take, size) for take in takes]
    for i, picture in enumerate(_pictures(jobs, workers)):
        film.shoot(i, picture)
        if progress:
            progress(i + 1, len(takes))
    film.duplicate()
    film.add_oddities()
    film.sidecars()
    rows = sorted(film.rows, key=lambda row: str(row["file"])) + film.frames
    (folder / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


_Job = tuple[Design, Take, int]


def _picture(job: _Job) -> Render:
    design, take, size = job
    return render(build(design, take.pose), take.shot, size)


def _pictures(jobs: list[_Job], workers: int) -> Iterator[Render]:
    """The pictures in the order of the jobs."""
    if workers == 1:
        yield from map(_picture, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_picture, jobs)


def _damage_plan(takes: list[Take], rng: np.random.Generator) -> dict[int, str]:
    """Which take gets which damage: every kind at least once (where there are takes enough), then by its share."""
    free = [int(i) for i in rng.permutation(len(takes))]
    chosen: dict[int, str] = {}
    for kind, (share, _) in DAMAGE.items():
        for _ in range(max(1, round(share * len(takes)))):
            if len(free) > 3:  # the duplicates are made of clean ones
                chosen[free.pop()] = kind
    return chosen


class _Film:
    """Files written so far, and what the truth says of them."""

    def __init__(self, folder: Path, size: int, seed: int, takes: list[Take]) -> None:
        self.folder, self.size, self.seed, self.takes = folder, size, seed, takes
        self.rows: list[Truth] = []
        self.frames: list[Truth] = []
        self.used = {(t.frame, t.instance) for t in takes}
        self.damage = _damage_plan(takes, self.rng(2))
        shots = list(dict.fromkeys(t.shot_id for t in takes))
        pairs = [t.shot_id for t in takes if t.instance == 1]
        self.framed = {*pairs[:1], *[s for s in shots if s not in pairs[:1]][:1]}
        self.waiting: list[tuple[Take, Render, Truth]] = []
        self.before: dict[tuple[str, int], np.ndarray] = {}

    def rng(self, *stream: int) -> np.random.Generator:
        key = np.random.SeedSequence([self.seed, *stream]).generate_state(2, np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def free(self, frame: int, start: int = 0) -> int:
        """The next unused instance number of a frame."""
        instance = start
        while (frame, instance) in self.used:
            instance += 1
        self.used.add((frame, instance))
        return instance

    def shoot(self, index: int, picture: Render) -> None:
        """Write the master and the instance of one take; then, where it is due, the composite of the whole frame."""
        take, rng = self.takes[index], self.rng(3, index)
        h, w = picture.alpha.shape
        master = f"masters/film_{take.frame:06d}_i{take.instance}.webp"
        pixels = np.dstack([picture.rgb, picture.alpha])
        Image.fromarray(pixels).save(self.folder / master, lossless=True, exact=True, quality=50, method=2)
        scene = backdrop(w, h, take.shot.light, rng)
        cut = Cut(rgb=picture.rgb, alpha=picture.alpha, backdrop=scene, depth=picture.depth, resize_to=(w, h))
        if rng.uniform() < 0.4:
            cut = shrink(cut, round(max(h, w) * rng.uniform(0.85, 0.97)), None)
        kind = self.damage.get(index)
        if kind:
            cut = DAMAGE[kind][1](cut, rng)
            if kind in ("lowres", "jpeg", "colour_cast") and rng.uniform() < 0.25:
                cut = hard_alpha(cut, rng)
        rgba = finished(cut)
        row = self.describe(take, picture, master, cut, rgba)
        (self.folder / str(row["file"])).write_bytes(png(rgba))
        self.rows.append(row)
        if take.shot_id in self.framed:
            self.waiting.append((take, picture, row))
        last = index + 1 == len(self.takes) or self.takes[index + 1].frame != take.frame
        if last and self.waiting:
            self.composite(rng)

    def describe(self, take: Take, picture: Render, master: str, cut: Cut, rgba: np.ndarray) -> Truth:
        """The truth about one instance."""
        h, w = picture.alpha.shape
        scale = cut.resize_to[0] / w
        dx, dy = cut.shift or (0, 0)
        head = [round(v * scale + d, 1) for v, d in zip(picture.head_box, (dx, dy, dx, dy), strict=True)]
        small = cv2.resize(
            over(picture.rgb, picture.alpha, np.zeros_like(picture.rgb)), (64, 64), interpolation=cv2.INTER_AREA
        )
        track = (take.shot_id, take.instance)
        change = (
            None if take.first else round(float(np.abs(small - self.before[track].astype(np.float32)).mean() / 255), 4)
        )
        self.before[track] = small
        kinds = {str(note["type"]) for note in cut.notes}
        clean = not kinds - {"dof"}
        luma = mean_luma(picture.rgb, picture.alpha)
        return {
            "file": f"instances/film_{take.frame:06d}_i{take.instance}.png", "kind": "instance",
            "identity": take.identity, "shot_id": take.shot_id, "frame": take.frame, "instance": take.instance,
            "camera": take.camera, "lighting": take.shot.light, "clip": take.action, "minor": False, "master": master,
            "cam": {"az": round(take.shot.azimuth, 1), "el": round(take.shot.elevation, 1), "fov": take.shot.fov},
            "degradations": list(cut.notes), "clean": clean, "dof": "dof" in kinds,
            "exact_dup_group": None, "near_dup_group": None, "cut_by_frame": list(picture.cut), "master_size": [w, h],
            "size": [rgba.shape[1], rgba.shape[0]], "mean_luma": mean_luma(rgba[..., :3], rgba[..., 3]),
            "naturally_low_key": luma is not None and luma < 70,
            "align": {
                "resize_to": list(cut.resize_to), "crop_xywh": list(cut.crop) if cut.crop else None,
                "pad_or_shift": list(cut.shift) if cut.shift else None,
            },
            "head_box": head, "face_toward_camera": abs(take.shot.azimuth) < 75, "natural_prev_diff64": change,
        }  # fmt: skip

    def composite(self, rng: np.random.Generator) -> None:
        """One frame of the film with SAM2 masks of the characters, of their heads and of the backdrop."""
        group, self.waiting = self.waiting, []
        first = group[0][0]
        width, height = (int(self.size * k) // 2 * 2 for k in (2.4, 1.35))
        scene = backdrop(width, height, first.shot.light, self.rng(4, int(first.shot_id[1:])))
        solid = np.zeros((height, width), bool)
        masks: list[tuple[np.ndarray, Truth]] = []  # who or what, and what the truth says of it
        for i, (take, picture, row) in enumerate(group):
            h, w = picture.alpha.shape
            x, y = int(width * (i + 1) / (len(group) + 1) - w / 2), height - h - (0 if picture.cut else height // 12)
            window = (slice(y, y + h), slice(x, x + w))
            scene[window] = over(picture.rgb, picture.alpha, scene[window])
            body, head = np.zeros_like(solid), np.zeros_like(solid)
            body[window], head[window] = picture.alpha > 127, picture.head & (picture.alpha > 127)
            box = [round(v + d, 1) for v, d in zip(picture.head_box, (x, y, x, y), strict=True)]
            masks.append((body, {
                "role": "instance", "identity": take.identity, "shot_id": take.shot_id, "master": row["master"],
                "visible_fraction": 1.0, "head_box": box, "minor": False, "camera": take.camera,
            }))  # fmt: skip
            masks.append((head, {"role": "part_head", "of": take.identity}))
            solid |= body
        blob = np.zeros((height, width), np.uint8)
        cv2.circle(blob, (width // 9, height // 5), height // 9, 1, -1)
        masks.append((~solid, {"role": "background"}))
        masks.append(((blob > 0) & ~solid, {"role": "background_blob"}))
        masks = [masks[i] for i in rng.permutation(len(masks)) if masks[i][0].any()]
        compressed = len(self.frames) % 2 == 0
        stem = f"frames/frame_{first.frame:06d}"
        entries = [sam2_mask(mask, compressed, rng) for mask, _ in masks]
        (self.folder / f"{stem}.json").write_text(json.dumps(entries), encoding="utf-8")
        data = cv2.imencode(".jpg", scene[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        (self.folder / f"{stem}.jpg").write_bytes(data.tobytes())
        self.frames.append({
            "file": f"{stem}.jpg", "kind": "frame", "masks": f"{stem}.json", "frame": first.frame,
            "rle": "compressed" if compressed else "uncompressed", "sequence": sorted(self.framed).index(first.shot_id),
            "background": f"scenery_{first.shot_id}", "size": [width, height],
            "annotations": [{"index": i} | note for i, (_, note) in enumerate(masks)],
        })  # fmt: skip

    def duplicate(self) -> None:
        """Exact copies, and copies moved by a pixel or two, scaled, or encoded again: about 3 % and 8 %."""
        rng = self.rng(5)
        originals = [row for row in self.rows if row["clean"] and not row["dof"]]
        originals = [originals[i] for i in rng.permutation(len(originals))]
        exact, near = max(1, round(0.03 * len(self.takes))), max(3, round(0.08 * len(self.takes)))
        for i, row in enumerate(originals[: exact + near]):
            source = self.folder / str(row["file"])
            copy = self.copied(row)
            target = self.folder / str(copy["file"])
            if i < exact:
                row["exact_dup_group"] = copy["exact_dup_group"] = f"E{i:03d}"
                copy["dup_of"] = row["file"]
                target.write_bytes(source.read_bytes())
            else:
                row["near_dup_group"] = copy["near_dup_group"] = f"N{i - exact:03d}"
                copy["near_dup_of"] = row["file"]
                how = ("shift", "resize", "reencode")[(i - exact) % 3]
                rgba = np.array(Image.open(source).convert("RGBA"))
                target.write_bytes(png(self.nearly(how, rgba, copy, rng)))
            self.rows.append(copy)

    def copied(self, row: Truth) -> Truth:
        """The truth of a copy, under a new instance number of the same frame."""
        copy: Truth = json.loads(json.dumps(row))
        instance = self.free(int(str(row["frame"])))
        return copy | {"instance": instance, "file": f"instances/film_{int(str(row['frame'])):06d}_i{instance}.png"}

    @staticmethod
    def nearly(how: str, rgba: np.ndarray, copy: Truth, rng: np.random.Generator) -> np.ndarray:
        """Change the picture a little, and say so in ``copy``."""
        h, w = rgba.shape[:2]
        align: dict[str, object] = {"resize_to": [w, h], "crop_xywh": None, "pad_or_shift": None}
        if how == "shift":
            dx, dy = ((1, 0), (0, 1), (2, 1), (-1, 2))[int(rng.integers(4))]
            rgba = cv2.warpAffine(rgba, np.array([[1, 0, dx], [0, 1, dy]], np.float32), (w, h), flags=cv2.INTER_NEAREST)
            align["pad_or_shift"] = [dx, dy]
            note: dict[str, object] = {"how": "shift", "dx": dx, "dy": dy}
        elif how == "resize":
            scale = round(float(rng.uniform(0.94, 0.98)), 3)
            size = (max(1, round(w * scale)), max(1, round(h * scale)))
            rgba = np.dstack(resize_cut(rgba[..., :3], rgba[..., 3], size))
            align["resize_to"] = list(size)
            note = {"how": "resize", "scale": scale}
        else:
            rgb = recompressed(rgba[..., :3], 90)
            rgb[rgba[..., 3] == 0] = 0
            rgba = np.dstack([rgb, rgba[..., 3]])
            note = {"how": "reencode", "jpeg_quality": 90}
        luma = mean_luma(rgba[..., :3], rgba[..., 3])
        copy |= {
            "near_dup": note,
            "variant": "near_dup",
            "align": align,
            "size": list(rgba.shape[1::-1]),
            "mean_luma": luma,
        }
        return rgba

    def add_oddities(self) -> None:
        """Junk (1 % of each sort, at least one), one file of each broken sort, one of each unusual format."""
        rng = self.rng(6)
        takes = self.takes
        for what in JUNK:
            for _ in range(max(1, round(0.01 * len(takes)))):
                take = takes[int(rng.integers(len(takes)))]
                rgba = junk(what, take.shot.light, self.size, rng)
                self.add("wrong_content", what, take.frame, png(rgba), {
                    "size": list(rgba.shape[1::-1]), "mean_luma": mean_luma(rgba[..., :3], rgba[..., 3]),
                    "align": {"resize_to": None, "crop_xywh": None, "pad_or_shift": None},
                })  # fmt: skip
        masters = {str(r["master"]): r for r in self.rows if r["kind"] == "instance"}
        names = [sorted(masters)[int(i)] for i in rng.permutation(len(masters))]
        for i, what in enumerate((*BROKEN, *ODD)):
            name = names[i % len(names)]
            row = masters[name]
            rgba = np.asarray(Image.open(self.folder / name).convert("RGBA"))
            frame = takes[-1].frame + 40 + 7 * i  # after the last shot: no neighbour of the frame it repeats
            if what in BROKEN:
                extra: Truth = {"decodable": False, "content_from": name}
                self.add("corrupt", what, frame, broken(what, rgba), extra)
                continue
            light: LightName = next(n for n in LIGHTS if n == row["lighting"])
            data, suffix = odd(what, rgba, backdrop(rgba.shape[1], rgba.shape[0], light, rng))
            same = (
                "identity",
                "shot_id",
                "camera",
                "cam",
                "lighting",
                "clip",
                "minor",
                "master",
                "cut_by_frame",
                "master_size",
            )
            self.add(
                "odd_format",
                what,
                frame,
                data,
                {k: row[k] for k in same} | {"decodable": True, "content_from": name},
                suffix,
            )

    def add(self, kind: str, what: str, frame: int, data: bytes, extra: Truth, suffix: str = "png") -> None:
        """Write a file that is no ordinary instance."""
        instance = self.free(frame)
        file = f"instances/film_{frame:06d}_i{instance}.{suffix}"
        (self.folder / file).write_bytes(data)
        row = {"file": file, "kind": kind} | _EMPTY | {"frame": frame, "instance": instance, "what": what}
        self.rows.append(row | extra)

    def sidecars(self) -> None:
        """A caption and a track beside the first two instances."""
        for take in self.takes[:2]:
            stem = self.folder / "instances" / f"film_{take.frame:06d}_i{take.instance}"
            caption = f"{take.identity}, a toy character, {take.shot.framing}, {take.shot.light} light"
            stem.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
            notes = {"track": f"{take.shot_id}_i{take.instance}", "frame": take.frame, "scene": take.shot_id}
            stem.with_suffix(".json").write_text(json.dumps(notes) + "\n", encoding="utf-8")
