"""Exact search with NumPy: the truth where FAISS is not installed, and a peer that every machine has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import Engine, Params, Shape, Singles

_BLOCK = 1 << 26  # products held at once


def nearest(base: NDArray[np.float32], queries: NDArray[np.float32], k: int, metric: str) -> NDArray[np.int64]:
    """ids [n][k] of the nearest rows, nearest first, of equal ones the smaller id first."""
    found = np.empty((len(queries), k), np.int64)
    norms = np.einsum("ij,ij->i", base, base, dtype=np.float64) if metric == "l2" else None
    step = max(1, _BLOCK // len(base))
    for at in range(0, len(queries), step):
        scores = (queries[at : at + step] @ base.T).astype(np.float64)
        distances = -scores if norms is None else norms - 2 * scores
        for row, values in enumerate(distances):
            bound = np.partition(values, k - 1)[k - 1]
            near = np.flatnonzero(values <= bound)
            found[at + row] = near[np.lexsort((near, values[near]))[:k]]
    return found


class BruteForce(Engine):
    """Every vector compared with; nothing to tune."""

    name = "numpy"
    package = "numpy"
    family = "exact"

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        return [{}]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return [{}]

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> BruteForce:
        engine = cls()
        engine.build(vectors, metric, {}, 1)
        return engine

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        self._base, self._metric = np.array(base), metric

    def save(self, folder: Path) -> None:
        np.save(folder / "base.npy", self._base)

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        self._base, self._metric = np.load(folder / "base.npy"), shape.metric

    def threads(self, count: int) -> None:
        """NumPy's products use what its BLAS was started with."""

    def prepare(self, setting: Params) -> None:
        pass

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        return nearest(self._base, queries, min(k, len(self._base)), self._metric)

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        return self.batches(queries, k, 1)
