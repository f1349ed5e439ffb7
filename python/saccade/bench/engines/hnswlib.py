"""hnswlib: the graph that others are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import FINE, Engine, Params, Shape, Singles, joined, ladder

_FILE = "index.hnsw"


class Hnswlib(Engine):
    """Edges: 16 and 32 a node. A batch is a loop over its queries in C++, without anything shared between them."""

    name = "hnswlib"
    package = "hnswlib"
    family = "graph"
    native_loop = True

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        return [{"M": m, "ef_construction": 200} for m in (16, 32)]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return [{"ef": ef} for ef in ladder(10, 512, FINE)]

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Hnswlib:
        engine = cls()
        engine.build(vectors, metric, {"M": 16, "ef_construction": 20}, 1)
        return engine

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        import hnswlib

        self._threads = threads
        self._index = hnswlib.Index(metric, base.shape[1])
        self._index.init_index(len(base), M=params["M"], ef_construction=params["ef_construction"], random_seed=1)
        self._index.add_items(base, num_threads=threads)

    def save(self, folder: Path) -> None:
        self._index.save_index(str(folder / _FILE))

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        import hnswlib

        self._threads = 1
        self._index = hnswlib.Index(shape.metric, shape.dim)
        self._index.load_index(str(folder / _FILE))

    def threads(self, count: int) -> None:
        self._threads = count

    def prepare(self, setting: Params) -> None:
        self._index.set_ef(setting["ef"])

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        return self._index.knn_query(queries, k, num_threads=self._threads)[0].astype(np.int64)

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        rows, ask = list(queries), self._index.knn_query
        return Singles(lambda i: ask(rows[i], k, 1), lambda asked, answers: joined([ids for ids, _ in answers]))
