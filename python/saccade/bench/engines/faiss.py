"""FAISS: inverted lists of 4-bit codes or whole vectors, 1-bit codes, and its graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import FINE, Engine, Params, Shape, Singles, ladder, lists_for

_FILE = "index.faiss"


def flat(base: NDArray[np.float32], queries: NDArray[np.float32], k: int, metric: str) -> NDArray[np.int64]:
    """The true neighbours: exhaustive search by FAISS."""
    import faiss

    index = faiss.IndexFlat(base.shape[1], _metric(metric))
    index.add(base)
    ids: NDArray[np.int64] = index.search(queries, k)[1]
    return ids


def _metric(name: str) -> int:
    import faiss

    return int(faiss.METRIC_L2 if name == "l2" else faiss.METRIC_INNER_PRODUCT)


def _searches(build: Params, probes: list[int], factors: tuple[int, ...] = ()) -> list[Params]:
    """Lists probed by rows re-ranked for each neighbour wanted. Where centroids lie in a graph, its beam goes with the
    lists that are to come out of it, and twice as wide. The names are those of FAISS's ParameterSpace."""
    graph = "_HNSW" in build["factory"]
    found: list[Params] = []
    for nprobe in probes:
        for beam in dict.fromkeys((max(16, nprobe), max(16, 2 * nprobe))) if graph else (0,):
            setting = {"nprobe": nprobe, **({"quantizer_efSearch": beam} if graph else {})}
            found += [{**setting, "k_factor_rf": factor} for factor in factors] or [setting]
    return found


class Faiss(Engine):
    """Whatever FAISS's index factory makes."""

    package = "faiss-cpu"

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Faiss:
        import faiss

        engine = cls()
        engine._index = faiss.IndexFlat(vectors.shape[1], _metric(metric))
        engine._index.add(vectors)
        return engine

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._index: Any = faiss.index_factory(base.shape[1], params["factory"], _metric(metric))
        self._before_training(params)
        self._index.train(base)
        self._index.add(base)

    def _before_training(self, params: Params) -> None:
        """Sets what the factory's string does not say."""

    def save(self, folder: Path) -> None:
        import faiss

        faiss.write_index(self._index, str(folder / _FILE))

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        import faiss

        self._index = faiss.read_index(str(folder / _FILE))

    def threads(self, count: int) -> None:
        import faiss

        faiss.omp_set_num_threads(count)

    def prepare(self, setting: Params) -> None:
        import faiss

        for name, value in setting.items():
            faiss.ParameterSpace().set_index_parameter(self._index, name, value)

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        ids: NDArray[np.int64] = self._index.search(queries, k)[1]
        return ids

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        """The C++ method itself, with pointers made beforehand: without the Python wrapper's checks and arrays."""
        import faiss

        rows = [np.ascontiguousarray(q) for q in queries]
        distances, ids = np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.int64)
        calls = [tuple(map(faiss.swig_ptr, (rows[i], distances[i], ids[i]))) for i in range(len(rows))]
        search = self._index.search_c

        def call(i: int, kept: object = (rows, distances)) -> None:  # which `calls` holds the addresses of
            x, d, labels = calls[i]
            search(1, x, k, d, labels)

        return Singles(call, lambda asked, answers: ids[list(asked)])


def _lists(shape: Shape) -> list[str]:
    one, four, eight = (lists_for(shape.count, share) for share in (1.0, 4.0, 8.0))
    return list(dict.fromkeys([f"IVF{one}", f"IVF{eight}_HNSW32", f"IVF{four}"]))


class FaissFastScan(Faiss):
    """IVF with 4-bit codes looked up in registers, then re-ranked against the vectors: the best tuned IVF type of FAISS
    where vectors are short. Lists: near sqrt(n), 2, 4 and 8 times that, from 4 times on with the centroids in a graph
    too. Codes: of 2 and of 4 dimensions. Re-ranked by f16, or by bytes where vectors are whole numbers; once by f32."""

    # f16 finds what f32 finds (whole numbers to 2,048 are exact) and reads half as much, which gains nothing clear;
    # SQ8_direct keeps bytes as they are: 9 to 14 % less time than by f32 in batches. SQ8's range for each dimension
    # rounds: of a million SIFT descriptors at most 0.974 of the neighbours are found, in no less time.

    name = "faiss-ivfpq"
    family = "ivf"

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        one, two, four, eight = (f"IVF{lists_for(shape.count, share)}" for share in (1.0, 2.0, 4.0, 8.0))
        fine, coarse = shape.dim // 2, shape.dim // 4
        short = "Refine(SQ8_direct)" if shape.whole else "Refine(SQfp16)"
        grid = [(one, fine, short), (f"{eight}_HNSW32", fine, short), (two, fine, short), (one, fine, "RFlat"),
                (four, fine, short), (f"{eight}_HNSW32", coarse, short), (one, coarse, short),
                (f"{four}_HNSW32", fine, short), (four, coarse, short)]  # fmt: skip
        good = [part for part in grid if part[1] > 0 and shape.dim % part[1] == 0]
        return [{"factory": f"{lists},PQ{m}x4fs,{refine}"} for lists, m, refine in dict.fromkeys(good)]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return _searches(build, ladder(4, 512), (2, 3, 4, 6, 8, 16, 32))


class FaissFlatLists(Faiss):
    """IVF with the vectors themselves in the lists: nothing lost but what lies in lists that are not probed. Lists:
    near sqrt(n), 4 times and, with the centroids in a graph, 8 times that. Vectors: f16, bytes where they are whole
    numbers, f32."""

    # A scan of vectors is bound by their bytes: the fewer, the faster.

    name = "faiss-ivfflat"
    family = "ivf"

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        kinds = ["SQ8_direct"] * shape.whole + ["SQfp16", "Flat"]
        return [{"factory": f"{lists},{kind}"} for kind in kinds for lists in _lists(shape)]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return _searches(build, ladder(2, 512, FINE))

    def _before_training(self, params: Params) -> None:
        if params["factory"].endswith(",SQ8_direct"):  # bytes hold vectors, not what they differ from a centroid by
            self._index.by_residual = False


class FaissRabitq(Faiss):
    """IVF with 1-bit codes (RaBitQ fast-scan), then re-ranked against the vectors in f16 or f32: for long vectors.
    Lists: near sqrt(n), 4 times and, with the centroids in a graph, 8 times that."""

    name = "faiss-rabitq"
    family = "ivf"

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        kinds = ("Refine(SQfp16)", "RFlat")
        return [{"factory": f"{lists},RaBitQfs,{kind}"} for kind in kinds for lists in _lists(shape)]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return _searches(build, ladder(4, 512), (4, 8, 16, 32, 64))


class FaissHnsw(Faiss):
    """FAISS's own graph over vectors in f32 and in f16."""

    name = "faiss-hnsw"
    family = "graph"

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        grid = ((16, "Flat"), (32, "Flat"), (32, "SQfp16"))
        return [{"factory": f"HNSW{m},{kind}", "efConstruction": 200} for m, kind in grid]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        return [{"efSearch": ef} for ef in ladder(10, 512, FINE)]

    def _before_training(self, params: Params) -> None:
        self._index.hnsw.efConstruction = params["efConstruction"]
