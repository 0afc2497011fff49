"""The map of embeddings: kept pictures, alike ones side by side, in two dimensions."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from lora_data.evenly import evenly
from lora_data.manifest import UNKNOWN, Record
from lora_data.report.kept import Kept
from lora_data.report.pictures import tile_id

LANDMARKS = 1000
"""Most pictures that are laid out against each other; the others take their place among their nearest ones."""
MOST = 6000
"""Most pictures drawn; of more, evenly many over the keys."""
LEAST = 5
"""Fewest pictures for a map."""
HUES = 8
"""Colours of the style sheet, ``hue0`` ...; after as many characters they come again, with squares for dots."""
_NEIGHBOURS = 5
_WIDTH, _HIGHEST, _MARGIN = 960.0, 620.0, 26.0
_LINE, _LETTER = 20.0, 7.5
"""Height and mean letter's width of a label, in units of the map at its full width."""


@dataclass(frozen=True, slots=True)
class Label:
    """A character's name over the median of its pictures, in percent of the map; ``mark``: the dots' class."""

    name: str
    anchor: str
    mark: str
    left: float
    top: float

    @property
    def half(self) -> float:
        """Half its width, in ems: what it must stay away from the map's edges."""
        return round(0.32 * len(self.name) + 1, 1)


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """The map.

    Args:
        chart: All pictures; a dot's title is its key, and it leads to its tile.
        labels: The characters' names.
        parts: By character, a small copy in which only its own pictures have colour.
        shown: Pictures drawn.
        left_out: Pictures that have an embedding and are not drawn.
        laid_out: Pictures laid out against each other.
    """

    chart: Markup
    labels: list[Label]
    parts: Mapping[str, Markup]
    shown: int
    left_out: int
    laid_out: int


def embedding_map(
    records: Sequence[Record], anchors: Mapping[str, str], kept: Kept | None = None
) -> EmbeddingMap | None:
    """The map of the kept pictures that have an embedding; None where there are too few.

    Args:
        records: All records.
        anchors: The characters in the order of the page, and the ids of their sections.
        kept: Where the last layout is; None: it is made anew.
    """
    found = sorted((r for r in records if r.active and r.embedding is not None), key=lambda r: r.key)
    # a table may come from two runs with embeddings of two kinds
    usable = [r for r in found if len(_vector(r)) == len(_vector(found[0]))]
    shown = evenly(usable, MOST)
    if len(shown) < LEAST or len(_vector(shown[0])) < 2:
        return None
    places, height = _framed(_projected(np.stack([_vector(r) for r in shown]), kept))
    groups: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(shown):
        groups[record.character].append(i)
    marks = {name: mark(number, name) for number, name in enumerate(anchors)}
    dots, body = "".join(_dot(places[i]) for i in range(len(shown))), ""
    for name in (name for name in anchors if name in groups):
        inner = "".join(_point(shown[i], places[i]) for i in groups[name])
        body += f'<g class="dots {marks[name]}">{inner}</g>'
    box = f'viewBox="0 0 {_WIDTH:g} {height:.0f}"'
    says = escape(f"Map of {len(shown)} kept pictures of {len(groups)} characters")
    chart = (
        f'<svg class="map" {box} role="group" aria-label="{says}">'
        f'<defs><path id="all-dots" d="{dots}"/></defs>{body}</svg>'
    )
    parts = {
        name: Markup(
            f'<svg class="map small" {box} role="img" aria-label="{escape(f"Where {name} lies on the map")}">'
            f'<use class="dots rest" href="#all-dots"/>'
            f'<path class="dots {marks[name]}" d="{"".join(_dot(places[i]) for i in members)}"/></svg>'
        )
        for name, members in groups.items()
    }
    wanted = [(name, *_above(places[groups[name]])) for name in anchors if name in groups]
    labels = [
        Label(name, anchors[name], marks[name], 100 * x / _WIDTH, 100 * y / height)
        for name, x, y in _apart(wanted, height)
    ]
    return EmbeddingMap(Markup(chart), labels, parts, len(shown), len(found) - len(shown), min(len(shown), LANDMARKS))


def mark(number: int, name: str) -> str:
    """The class of a character's dots: colour, and shape where the colours come again."""
    if name == UNKNOWN:
        return "nobody"
    return f"hue{number % HUES}" + (" square" if number // HUES % 2 else "")


def outliers(records: Sequence[Record], most: int = 8) -> list[Record]:
    """The kept pictures that are least clearly their own character's, the least first."""
    judged = [(r.core_margin, r.key, r) for r in records if r.active and r.core_margin is not None]
    return [record for _, _, record in sorted(judged, key=lambda found: found[:2])[:most]]


def _projected(vectors: np.ndarray, kept: Kept | None) -> np.ndarray:
    """`project`, where it was not made before."""
    if kept is None:
        return project(vectors)
    vectors = np.ascontiguousarray(vectors, np.float32)
    decides = [list(vectors.shape), hashlib.sha256(vectors.tobytes()).hexdigest()]
    made = kept.made("map", decides, ("numpy", "scikit-learn"), lambda: project(vectors).astype("<f8").tobytes())
    return np.frombuffer(made, "<f8").reshape(-1, 2)


def project(vectors: np.ndarray) -> np.ndarray:
    """Lay vectors out in a plane, alike ones side by side: t-SNE from the first two principal components.

    Chosen by looking, against the principal components themselves and those of the characters' means: of ten rendered
    characters (222 pictures), t-SNE sets ten groups apart (silhouette .67; 99 % of the pictures lie among their own),
    where principal components show the light rather than the character (.32 and 95 %, .22 and 89 %). What the
    distance between two groups says is little.

    Args:
        vectors: float32 ``[N, D]``, N at least `LEAST`, D at least 2.

    Returns:
        float64 ``[N, 2]``, the longer direction first. The same vectors give the same numbers on a machine: one thread,
        no chance. Beyond `LANDMARKS` vectors, evenly many are laid out and each other one takes the mean place of its
        nearest five of them, weighted by nearness.

    Source: van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 2008; initialisation: Kobak and Berens, The
        art of using t-SNE for single-cell transcriptomics, Nature Communications 2019; placing further points: Policar
        et al., Embedding to reference t-SNE space, Machine Learning 2021.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vectors = np.ascontiguousarray(vectors, np.float32)
    chosen = np.array(evenly(range(len(vectors)), LANDMARKS))
    landmarks = vectors[chosen]
    if float(landmarks.std(0).max()) < 1e-6:  # all alike: there is nothing to lay out
        return np.zeros((len(vectors), 2))
    with threadpool_limits(1):
        start: Any = _start(landmarks)  # typed as a text alone
        perplexity = min(30.0, (len(landmarks) - 1) / 3)
        laid = np.asarray(
            TSNE(2, perplexity=perplexity, init=start, random_state=0).fit_transform(landmarks), np.float64
        )
        places = laid
        if len(chosen) < len(vectors):
            squared = (vectors**2).sum(1)[:, None] - 2 * vectors @ landmarks.T + (landmarks**2).sum(1)
            near = np.argsort(squared, axis=1, kind="stable")[:, :_NEIGHBOURS]
            weight = 1 / np.maximum(np.take_along_axis(squared, near, 1), 1e-6).astype(np.float64)
            places = (laid[near] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
            places[chosen] = laid
        places = places - places.mean(0)
        return places @ np.linalg.svd(places, full_matrices=False)[2].T


def _start(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components, as small as t-SNE wants to start from."""
    centred = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh(centred @ centred.T)
    start = axes[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0))
    # either sign is right; one must be chosen
    start *= np.where(start[np.abs(start).argmax(0), [0, 1]] < 0, -1, 1)
    return (start / max(float(start[:, 0].std()), 1e-12) * 1e-4).astype(np.float32)


def _framed(places: np.ndarray) -> tuple[np.ndarray, float]:
    """Places on the map, and its height."""
    low, size = places.min(0), np.ptp(places, axis=0)
    inner = np.array([_WIDTH, _HIGHEST]) - 2 * _MARGIN
    scale = float((inner / np.maximum(size, 1e-9)).min()) if float(size.max()) > 0 else 1.0
    shown = size * scale
    height = float(max(shown[1], 120.0)) + 2 * _MARGIN
    return (places - low) * scale + (np.array([_WIDTH, height]) - shown) / 2, height


def _above(places: np.ndarray) -> tuple[float, float]:
    """Where a group's name stands: over its middle, and over nine of ten of its dots."""
    return float(np.median(places[:, 0])), float(np.quantile(places[:, 1], 0.1)) - _LINE


def _apart(labels: Sequence[tuple[str, float, float]], height: float) -> list[tuple[str, float, float]]:
    """Move labels up or down until none covers another; the order stays."""
    placed: list[tuple[str, float, float]] = []
    for name, x, y in labels:
        half = _LETTER * (len(name) + 3) / 2
        taken = [(other, at, up) for other, at, up in placed if abs(at - x) < half + _LETTER * (len(other) + 3) / 2]
        steps = sorted((sign * step for step in range(int(2 * height / _LINE)) for sign in (-1, 1)), key=abs)
        tried = (min(max(y + step * _LINE / 2, _LINE / 2), height - _LINE / 2) for step in steps)
        free = (at for at in tried if all(abs(at - up) >= _LINE for _, _, up in taken))
        placed.append((name, min(max(x, half), _WIDTH - half), next(free, y)))
    return placed


def _point(record: Record, place: np.ndarray) -> str:
    """A dot with its key as the title; it leads to the tile. Tab passes it over: thousands would stand in the way."""
    title = f"<title>{escape(record.key)}</title>"
    target = tile_id(record.key)
    dot = f'<path d="{_dot(place)}"/>'
    return f'<a href="#{target}" tabindex="-1">{title}{dot}</a>' if target else f"<g>{title}{dot}</g>"


def _dot(place: np.ndarray) -> str:
    """A point of a stroke with round or square ends: its size stays when the map is scaled."""
    return f"M{place[0]:.1f} {place[1]:.1f}h.01"


def _vector(record: Record) -> np.ndarray:
    assert record.embedding is not None
    return record.embedding
