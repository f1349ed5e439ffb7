"""What data sets are made from, and two of them: descriptors of photos that a user has, and generated vectors whose
spectrum, clusters and intrinsic dimension are stated. Embeddings of photos are made by crops.py."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .progress import Progress

SUFFIXES = {".jpg", ".jpeg"}
QUERY_SHARE = 0.1  # of the photos, kept for queries


@dataclass(frozen=True)
class Materials:
    """What makers make from: a folder of photos, a folder with a model, a seed; limit: at most so many vectors."""

    photos: Path | None = None
    model: Path | None = None
    seed: int = 1
    limit: int = 0

    def count(self, whole: int) -> int:
        return min(whole, self.limit or whole)

    def split(self) -> tuple[list[Path], list[Path]]:
        """(photos of the base, photos of the queries): a photo is on the side that its name says, whatever else is
        in the folder. Raises ValueError where a side would be empty."""
        if self.photos is None or not self.photos.is_dir():
            raise ValueError(f"--photos DIR must name a folder of JPEGs, got {self.photos}")
        every = sorted(p for p in self.photos.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        asking = [_fraction(f"{self.seed}/{p.relative_to(self.photos)}") < QUERY_SHARE for p in every]
        base = [p for p, asks in zip(every, asking, strict=True) if not asks]
        queries = [p for p, asks in zip(every, asking, strict=True) if asks]
        if not base or not queries:
            raise ValueError(f"{self.photos}: {len(every)} photos are too few to keep some for queries")
        return base, queries

    @property
    def photos_words(self) -> str:
        base, queries = self.split()
        return f"{len(base) + len(queries):,} photos"

    @property
    def model_words(self) -> str:
        return "embeddings" if self.model is None else f"{self.model.name} embeddings"


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


# ---- SIFT of photos ----------------------------------------------------------------------------------


def sift_of_photos(materials: Materials, count: int, queries: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(base [count][128], queries [queries][128]): SIFT descriptors (Lowe, 2004, as OpenCV has them: whole numbers),
    drawn evenly from all that were found and shuffled. Raises ValueError where photos have fewer."""
    base, asking = materials.split()
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ValueError("OpenCV is not installed, which finds SIFT: pip install opencv-python-headless") from error
    # A third more than the mean is wanted of each: photos differ in texture. Both sides alike, so that queries are no
    # stronger keypoints than what they look for.
    each = max(64, -(-4 * count // (3 * len(base))), -(-4 * queries // (3 * len(asking))))
    rng = np.random.default_rng(materials.seed)
    return _drawn(_sift(base, each), count, rng, "base"), _drawn(_sift(asking, each), queries, rng, "query")


def _drawn(found: Iterable[NDArray[Any]], count: int, rng: np.random.Generator, side: str) -> NDArray[Any]:
    rows = np.concatenate(list(found))
    if len(rows) < count:
        raise ValueError(f"the {side} photos have {len(rows):,} descriptors, {count:,} are wanted: give more photos")
    return rows[rng.permutation(len(rows))[:count]]


def _sift(photos: list[Path], each: int) -> Iterator[NDArray[np.uint8]]:
    with ThreadPool(os.cpu_count()) as pool:  # OpenCV lets go of the interpreter while it works
        progress = Progress("describing photos", len(photos))
        for i, found in enumerate(pool.imap(partial(_describe, each=each), photos, 8)):
            progress.show(i + 1)
            yield found


def _describe(path: Path, each: int) -> NDArray[np.uint8]:
    """At most `each` descriptors of a photo, strongest keypoints first; none where it cannot be read."""
    import cv2

    cv2.setNumThreads(1)
    grey = cv2.imread(os.fspath(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        return np.empty((0, 128), np.uint8)
    shrink = 1024 / max(grey.shape)
    if shrink < 1:
        grey = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    # A low threshold: faint keypoints too, or small photos would not give enough.
    detector = cv2.SIFT_create(nfeatures=each, contrastThreshold=0.005, edgeThreshold=15)
    found = detector.detectAndCompute(grey, None)[1]
    return np.empty((0, 128), np.uint8) if found is None else np.rint(found[:each]).astype(np.uint8)


# ---- generated vectors ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clusters:
    """Vectors of length 1 in clusters, whose sizes follow Zipf's law with exponent 0.5.

    Centres are Gaussian, and the variance of the i-th axis is i^-decay: the spectrum. Around its centre a cluster
    spreads over `rank` axes of its own kind (one of `kinds` random orthonormal frames), the variance of the i-th being
    i^-decay too: the intrinsic dimension is at most rank. `noise` is the share of a vector's variance that spreads over
    all axes alike, `spread` that of the cluster; the centre has the rest. Queries are drawn like the base.
    """

    count: int
    queries: int
    dim: int
    clusters: int = 1_000
    rank: int = 24
    kinds: int = 32
    decay: float = 0.8
    spread: float = 0.45
    noise: float = 0.05
    seed: int = 1

    @property
    def words(self) -> str:
        return (
            f"{self.count:,} x {self.dim} generated: {self.clusters:,} clusters, spectrum i^-{self.decay}, each spread "
            f"over {self.rank} axes (share {self.spread}) and noise over all (share {self.noise}), length 1"
        )


def clusters(recipe: Clusters) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(base, queries) of a recipe; the same recipe gives the same vectors on every machine that rounds alike."""
    rng = np.random.default_rng(recipe.seed)
    rank = min(recipe.rank, recipe.dim)
    axes = np.arange(1, recipe.dim + 1) ** (-recipe.decay / 2)
    centres = rng.standard_normal((recipe.clusters, recipe.dim), np.float32) * (axes / np.linalg.norm(axes))
    frames = np.stack([np.linalg.qr(rng.standard_normal((recipe.dim, rank)))[0].T for _ in range(recipe.kinds)])
    inner = np.arange(1, rank + 1) ** (-recipe.decay / 2)
    frames = frames * (inner / np.linalg.norm(inner))[:, np.newaxis]
    weights = np.arange(1, recipe.clusters + 1) ** -0.5
    weights /= weights.sum()
    parts = centres.astype(np.float32), frames.astype(np.float32), weights
    return _points(recipe, recipe.count, parts, rng), _points(recipe, recipe.queries, parts, rng)


def _points(
    recipe: Clusters, count: int, parts: tuple[NDArray[Any], ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    centres, frames, weights = parts
    out = np.empty((count, recipe.dim), np.float32)
    for at in range(0, count, 65536):
        block = out[at : at + 65536]
        which = rng.choice(recipe.clusters, len(block), p=weights)
        block[:] = centres[which] * np.float32(np.sqrt(1 - recipe.spread - recipe.noise))
        for kind in range(recipe.kinds):
            rows = np.flatnonzero(which % recipe.kinds == kind)
            steps = rng.standard_normal((len(rows), frames.shape[1]), np.float32)
            block[rows] += steps @ frames[kind] * np.float32(np.sqrt(recipe.spread))
        block += rng.standard_normal(block.shape, np.float32) * np.float32(np.sqrt(recipe.noise / recipe.dim))
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return out
