"""Intel's Scalable Vector Search: a Vamana graph over vectors or locally adapted codes (LVQ)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import FINE, Engine, Params, Shape, Singles, Unavailable, joined, ladder


class Svs(Engine):
    """Codes: 4 bits and 8 more to re-rank by (LVQ4x8), 8 bits, whole vectors. Edges: 32 and 64 a node. A batch is a
    loop over its queries in C++."""

    name = "svs-vamana"
    package = "scalable-vs"
    family = "graph"
    native_loop = True

    @classmethod
    def version(cls) -> str:
        version = super().version()
        try:
            import svs  # noqa: F401
        except Exception as error:  # it picks a build by the processor
            raise Unavailable(f"scalable-vs {version} does not start: {error}") from error
        return version

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        grid = ((32, [4, 8]), (64, [4, 8]), (32, [8, 0]), (32, []))
        return [{"degree": degree, "window": 128, "bits": bits} for degree, bits in grid]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return [{"window": w} for w in ladder(10, 512, FINE)]

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Svs:
        engine = cls()
        engine.build(vectors, metric, {"degree": 16, "window": 16, "bits": []}, 1)
        return engine

    @staticmethod
    def _distance(metric: str) -> Any:
        import svs

        return svs.DistanceType.L2 if metric == "l2" else svs.DistanceType.MIP

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        import svs

        alpha = 1.2 if metric == "l2" else 0.95
        graph = svs.VamanaBuildParameters(
            alpha=alpha, graph_max_degree=params["degree"], window_size=params["window"], prune_to=params["degree"] - 4
        )
        rows = np.ascontiguousarray(base)
        if not params["bits"]:
            self._index = svs.Vamana.build(graph, rows, self._distance(metric), num_threads=threads)
            return
        with tempfile.TemporaryDirectory() as folder:  # codes are made from a file
            svs.write_vecs(rows, f"{folder}/base.fvecs")
            loader = svs.VectorDataLoader(f"{folder}/base.fvecs", svs.DataType.float32, dims=base.shape[1])
            primary, residual = params["bits"]
            codes = svs.LVQLoader(loader, primary=primary, residual=residual)
            self._index = svs.Vamana.build(graph, codes, self._distance(metric), num_threads=threads)

    def save(self, folder: Path) -> None:
        self._index.save(*[str(folder / part) for part in ("config", "graph", "data")])

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        import svs

        data: Any = svs.VectorDataLoader(str(folder / "data"), svs.DataType.float32, dims=shape.dim)
        if params["bits"]:
            data = svs.LVQLoader(str(folder / "data"))
        graph = svs.GraphLoader(str(folder / "graph"))
        self._index = svs.Vamana(str(folder / "config"), graph, data, self._distance(shape.metric), num_threads=1)

    def threads(self, count: int) -> None:
        self._index.num_threads = count

    def prepare(self, setting: Params) -> None:
        self._index.search_window_size = setting["window"]

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        return self._index.search(queries, k)[0].astype(np.int64)

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        rows, ask = [queries[i : i + 1] for i in range(len(queries))], self._index.search
        return Singles(lambda i: ask(rows[i], k), lambda asked, answers: joined([ids for ids, _ in answers]))
