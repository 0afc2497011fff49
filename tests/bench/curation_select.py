"""Selection on large tables, and k-means with the picture nearest to each centre, which a person would use instead.

The table is synthetic: tracks of six frames, with an embedding and a silhouette per track that drift from frame to
frame. Embeddings of a character lie about .05 (1 - cosine) apart, within a track .003, as on rendered characters.
K-means sees the embeddings alone, and has as many centres as pictures are kept; its time grows faster, so that it is
measured on the smaller tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from lora_data.backends.appearance import DIMENSIONS
from lora_data.manifest import Record
from lora_data.stages.deduplicate import quality_of
from lora_data.stages.select import Select

SIZES = (12_500, 25_000, 50_000, 100_000)
TRACK = 6
"""Frames of a track."""


def synthetic_table(count: int, characters: int = 1, seed: int = 0) -> list[Record]:
    """Records as the selection finds them: embedding, silhouette, framing, light, sharpness and frame numbers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:96j, -1:1:96j].astype(np.float32)
    names = rng.random((characters, DIMENSIONS), np.float32)
    records: list[Record] = []
    for track in range(-(-count // TRACK)):
        colours = names[track % characters] + 0.44 * (rng.random(DIMENSIONS, np.float32) - 0.5)
        cx, cy, wide, tall = rng.uniform((-0.3, -0.3, 0.2, 0.4), (0.3, 0.3, 0.6, 0.9))
        light, framing = rng.uniform(40, 200), ("close-up", "half", "full")[int(rng.integers(3))]
        for step in range(min(TRACK, count - track * TRACK)):
            vector = np.maximum(colours + 0.1 * (rng.random(DIMENSIONS, np.float32) - 0.5), 0)
            drift = cx + 0.02 * step
            matte = ((x - drift) / wide) ** 2 + ((y - cy) / tall) ** 2 < 1
            number = track * TRACK + step
            record = Record(
                source=f"film/{number:06d}.png",
                key=f"k{number:06d}",
                frame=10 * track + step,
                track=f"t{track}",
                character=f"c{track % characters}",
                box_width=400,
                box_height=600,
                matte_soft=0.5,
                sharpness=float(rng.uniform(1, 8)),
                brightness=float(light + rng.normal(0, 2)),
                framing=framing,
                embedding=vector / np.linalg.norm(vector),
                thumb_matte=np.packbits(matte),
            )
            records.append(record.replace(quality=quality_of(record)))
    return records


def plain(records: Sequence[Record], keep: int) -> list[str]:
    """What a person would use instead: k-means on the embeddings, and of each cluster the picture nearest to it."""
    vectors = np.stack([r.embedding for r in records if r.embedding is not None])
    model = KMeans(keep, n_init=1, random_state=0)  # pyright: ignore[reportArgumentType]
    model.fit(vectors)
    return [records[i].key for i in pairwise_distances_argmin(model.cluster_centers_, vectors)]


PLAIN_UP_TO = 25_000


def cases() -> list[tuple[str, Callable[[], dict[str, float]]]]:
    """Each size with one character and with eight, and k-means beside the smaller ones."""
    found: list[tuple[str, Callable[[], dict[str, float]]]] = []
    for size in SIZES:
        found += [(f"{size:,} of {n}", partial(selected, size, n)) for n in (1, 8)]
        if size <= PLAIN_UP_TO:
            found.append((f"k-means instead: {size:,} of 1", partial(by_k_means, size)))
    return found


def selected(size: int, characters: int) -> dict[str, float]:
    """CPU seconds of the stage, and how many it keeps."""
    records = synthetic_table(size, characters)
    start = time.process_time()
    kept = sum(r.active for r in Select().apply(records))
    return {"seconds": time.process_time() - start, "kept": kept}


def by_k_means(size: int) -> dict[str, float]:
    """The same of the alternative, for one character."""
    records = synthetic_table(size)
    start = time.process_time()
    kept = len(set(plain(records, Select().target[1])))
    return {"seconds": time.process_time() - start, "kept": kept}
