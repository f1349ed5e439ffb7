"""ScaNN: a tree of partitions, 4-bit codes looked up in registers, exact re-ordering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import Engine, Params, Shape, Singles, Unavailable, ladder, lists_for


class Scann(Engine):
    """Leaves: near 2 and 1 times sqrt(n), and 8 times that with their centroids in bytes; with points spilled to a
    second leaf (SOAR) where the metric is ip, as ScaNN allows it there. Codes of 2 dimensions each; anisotropic loss
    where the metric is ip. Re-ordered by f32 and by bf16."""

    # bf16 is half as much to read, and exact where components are whole numbers to 256.

    name = "scann"
    package = "scann"
    family = "ivf"

    @classmethod
    def version(cls) -> str:
        version = super().version()
        try:
            import scann  # noqa: F401
        except Exception as error:  # it is tied to certain processors and to other packages' versions
            raise Unavailable(f"scann {version} does not start: {error}") from error
        return version

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        two, one, eight = (lists_for(shape.count, share) for share in (2.0, 1.0, 8.0))
        plain: Params = {"leaves": two, "dims_per_block": 2, "soar": 0.0}
        short = {"reorder_by": "bfloat16"}
        builds = [{**plain, "soar": 1.5, **short}] if shape.metric == "ip" else []
        builds += [plain, {**plain, **short}, {**plain, "leaves": eight, "byte_centroids": True, **short}]
        return builds + [{**plain, "leaves": one}] * (one != two)

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        probes = ladder(4, min(512, build["leaves"]))
        return [{"leaves": n, "reorder": r} for n in probes for r in (20, 30, 40, 60, 120, 240)]

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Scann:
        engine = cls()
        engine._parallel = False
        engine._searcher = engine._builder(vectors, metric).score_brute_force().build()
        engine._setting = {"leaves": -1, "reorder": -1}
        return engine

    @staticmethod
    def _builder(base: NDArray[np.float32], metric: str):  # type: ignore[no-untyped-def]
        import scann

        return scann.scann_ops_pybind.builder(base, 10, "squared_l2" if metric == "l2" else "dot_product")

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        import scann

        spill = {"soar_lambda": params["soar"], "overretrieve_factor": 2.0} if params["soar"] else {}
        builder = self._builder(np.asarray(base), metric).set_n_training_threads(threads).tree(
            num_leaves=params["leaves"], num_leaves_to_search=16, training_sample_size=min(len(base), 250_000),
            quantize_centroids=params.get("byte_centroids", False), **spill
        )  # fmt: skip
        loss = 0.2 if metric == "ip" else float("nan")  # the anisotropic loss is of inner products
        builder = builder.score_ah(params["dims_per_block"], anisotropic_quantization_threshold=loss)
        by = scann.ReorderType.BFLOAT16 if "reorder_by" in params else scann.ReorderType.FLOAT32
        self._searcher = builder.reorder(100, quantize=by).build()

    def save(self, folder: Path) -> None:
        self._searcher.serialize(str(folder), relative_path=True)  # the folder may be moved

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        import scann

        self._searcher = scann.scann_ops_pybind.load_searcher(str(folder))
        self._searcher.set_num_threads(1)
        self._parallel = False

    def threads(self, count: int) -> None:
        self._parallel = count > 1
        self._searcher.set_num_threads(count)

    def prepare(self, setting: Params) -> None:
        self._setting = setting

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        ask = self._searcher.search_batched_parallel if self._parallel else self._searcher.search_batched
        ids = ask(queries, k, self._setting["reorder"], self._setting["leaves"])[0]
        return ids.astype(np.int64)

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        rows, ask = list(queries), self._searcher.search
        reorder, leaves = self._setting["reorder"], self._setting["leaves"]
        return Singles(
            lambda i: ask(rows[i], k, reorder, leaves),
            lambda asked, answers: np.array([padded(a[0], k) for a in answers]),
        )


def padded(ids: NDArray[np.integer], k: int) -> NDArray[np.int64]:
    """A short answer filled up with -1."""
    return np.pad(ids[:k].astype(np.int64), (0, max(0, k - len(ids))), constant_values=-1)
