"""NGT: Yahoo Japan's graph, which a tree of its vectors leads into."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Engine, Params, Shape, Singles

_METRICS = {"l2": "L2", "ip": "Inner Product"}


class Ngt(Engine):
    """ANNG over whole vectors. Edges: at least 10 and 20 a node. A batch is a loop over its queries in C++. Its
    quantized graph is made by a program that the package from PyPI does not have."""

    name = "ngt"
    package = "ngt"
    family = "graph"
    native_loop = True

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        return [{"edges": edges} for edges in (10, 20)]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        steps = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.2)
        return [{"epsilon": e} for e in steps]

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Ngt:
        engine = cls()
        engine.build(vectors, metric, {"edges": 10}, 1)
        return engine

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        import ngtpy

        self._made = tempfile.TemporaryDirectory()  # an index is a folder from its first vector on
        path = f"{self._made.name}/index"
        ngtpy.create(path, base.shape[1], edge_size_for_creation=params["edges"], distance_type=_METRICS[metric])
        self._index: Any = ngtpy.Index(path, log_disabled=True)
        self._index.batch_insert(np.ascontiguousarray(base), num_threads=threads)

    def save(self, folder: Path) -> None:
        self._index.save()
        shutil.copytree(f"{self._made.name}/index", folder, dirs_exist_ok=True)

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        import ngtpy

        self._index = ngtpy.Index(os.fspath(folder), read_only=True, log_disabled=True)

    def threads(self, count: int) -> None:
        """Of the OpenMP runtimes that are loaded: NGT takes as many as its own says and has no call for it."""
        with open("/proc/self/maps") as maps:
            runtimes = {line.split()[-1] for line in maps if "libgomp" in line}
        for path in runtimes:
            ctypes.CDLL(path).omp_set_num_threads(count)

    def prepare(self, setting: Params) -> None:
        self._index.set(epsilon=setting["epsilon"])

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        import ngtpy

        results = ngtpy.BatchResults()
        self._index.batch_search(queries, results, k, with_distance=False)
        ids: NDArray[np.int64] = results.get_ids().astype(np.int64)
        return ids

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        rows, ask = list(queries), self._index.search

        def decode(asked: object, answers: list[NDArray[np.int32]]) -> NDArray[np.int64]:
            found = np.full((len(answers), k), -1, np.int64)
            for row, ids in zip(found, answers, strict=True):
                row[: len(ids)] = ids
            return found

        return Singles(lambda i: ask(rows[i], k, with_distance=False), decode)

    def close(self) -> None:
        self._index.close()
