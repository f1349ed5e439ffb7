"""USearch: a graph with SIMD distances in several types of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import FINE, Engine, Params, Shape, Singles, ladder

_FILE = "index.usearch"


class Usearch(Engine):
    """Numbers: f32, and bf16 at half the memory. A batch is a loop over its queries in C++."""

    name = "usearch"
    package = "usearch"
    family = "graph"
    native_loop = True

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        grid = ((16, "f32"), (16, "bf16"), (32, "f32"))
        return [{"connectivity": m, "expansion_add": 128, "dtype": dtype} for m, dtype in grid]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return [{"expansion_search": ef} for ef in ladder(10, 512, FINE)]

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Usearch:
        engine = cls()
        engine.build(vectors, metric, {"connectivity": 16, "expansion_add": 20, "dtype": "f32"}, 1)
        return engine

    def _empty(self, dim: int, metric: str, params: Params) -> None:
        from usearch.index import Index

        kind = "l2sq" if metric == "l2" else "ip"
        self._index = Index(ndim=dim, metric=kind, **params)

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        self._threads = threads
        self._empty(base.shape[1], metric, params)
        self._index.add(np.arange(len(base), dtype=np.uint64), np.asarray(base), threads=threads)

    def save(self, folder: Path) -> None:
        self._index.save(str(folder / _FILE))

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        self._threads = 1
        self._empty(shape.dim, shape.metric, params)
        self._index.load(str(folder / _FILE))

    def threads(self, count: int) -> None:
        self._threads = count

    def prepare(self, setting: Params) -> None:
        self._index.expansion_search = setting["expansion_search"]

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        found = self._index.search(queries, k, threads=self._threads)
        return np.atleast_2d(found.keys).astype(np.int64)

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        rows, ask = list(queries), self._index.search
        return Singles(
            lambda i: ask(rows[i], k, threads=1),
            lambda asked, answers: np.array([found.keys for found in answers]).astype(np.int64),
        )
