"""saccade's own index."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ... import _library
from ...device import Device
from ...index import Index
from .base import Engine, Params, Shape, Singles, Unavailable, ladder, lists_for, lists_of

_HIT = np.dtype(_library.Hit)
_QUERY = np.dtype(_library.Query)
_FILE = "index"
LONG = 256  # dimensions from which codes of a bit each are worth trying


class Saccade(Engine):
    """Builds: "auto"; for queries that come alone lists of about 122 and 244 vectors with codes of 8 dimensions, and of
    1 bit each (RaBitQ) where vectors are long; for batches lists of about 488 and 244 with codes of 4 and 2. Searches:
    by the recall asked for, then by lists probed and candidates re-ranked. Building includes measuring the curve that
    recall is asked by."""

    # Alone, a query is bound by the bytes of codes that it reads: many short lists, short codes, many candidates. In
    # batches a list is decoded once for all that probe it, which costs the same whatever the code: fewer lists, longer
    # codes, fewer candidates. Candidates are re-ranked by f16 vectors: 5 to 15 % less time than by f32 and the same
    # neighbours (whole numbers to 2,048 are exact). By bytes (SQ8) it takes no less, and of a million SIFT descriptors
    # at most 0.975 of the neighbours are found: with one scale for a vector not even whole numbers are exact.

    name = "saccade"
    family = "ivf"

    @classmethod
    def version(cls) -> str:
        try:
            library = _library.path()
            _library.load()
        except (ImportError, OSError) as error:
            raise Unavailable(str(error)) from error
        return f"{_library.VERSION}+{hashlib.sha256(library.read_bytes()).hexdigest()[:8]}"

    @classmethod
    def builds(cls, shape: Shape) -> list[Params]:
        grid = ((122, 8), (488, 4), (244, 8), (244, 4), (488, 2), (977, 4), (122, 4), (244, 2), (61, 8))
        good = [(lists_of(shape.count, rows), shape.dim // d) for rows, d in grid if shape.dim % d == 0]
        codes = [f"IVF{n},PQ{m}" for n, m in good]
        if shape.dim >= LONG:
            codes[1:1] = [f"IVF{lists_of(shape.count, rows)},RaBitQ" for rows in (122, 244)]
        return [{"spec": spec} for spec in dict.fromkeys(["auto", *(f"{c},Refine(SQfp16)" for c in codes)])]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        recalls = (0.5, 0.6, 0.7, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)
        asked = [{"recall": r} for r in recalls]
        probes = ladder(4, min(512, lists_for(shape.count, 2.0)))
        return asked + [{"nprobe": n, "depth": d} for n in probes for d in (14, 20, 28, 40, 60, 80, 160, 320)]

    @classmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Saccade:
        engine = cls()
        engine._device = Device("cpu", threads=1)
        engine._index = Index(vectors.shape[1], metric, "Flat", device=engine._device)
        engine._index.add(vectors)
        return engine

    def __init__(self) -> None:
        self._setting: Params = {}
        self._path: Path | None = None

    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None:
        self._device = Device("cpu", threads=threads)
        self._index = Index(base.shape[1], metric, params["spec"], device=self._device)
        self._index.train(base)
        self._index.add(base)
        self._index.measure()

    def save(self, folder: Path) -> None:
        self._index.save(folder / _FILE)

    def load(self, folder: Path, shape: Shape, params: Params) -> None:
        """folder: or the index's file itself."""
        self._path = folder / _FILE if folder.is_dir() else folder
        self._device = Device("cpu", threads=1)
        self._index = Index.load(self._path, device=self._device)

    def threads(self, count: int) -> None:
        """An index belongs to its device: another number of threads is another device, and loads it anew."""
        if count != self._device.threads and self._path is not None:
            self._index.close()
            self._device = Device("cpu", threads=count)
            self._index = Index.load(self._path, device=self._device)

    def prepare(self, setting: Params) -> None:
        self._setting = setting

    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        return self._index.search(queries, k, **self._setting)[1]

    def prepared(self, queries: NDArray[np.float32], k: int) -> Prepared:
        return Prepared(self._index, queries, k, self._setting)

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        prepared = self.prepared(queries, k)
        search = prepared.search
        return Singles(lambda i: search(i, 1), lambda asked, answers: prepared.ids()[list(asked)])

    def facts(self) -> Params:
        info = self._index.info
        names = ("spec", "nlist", "m", "nbits", "bytes_codes", "bytes_vectors", "bytes_other")
        return {name: getattr(info, name) for name in names}

    def close(self) -> None:
        self._index.close()


class Prepared:
    """The C function itself, with the structs of queries [n][dim] made beforehand, as FAISS is asked too: Index.search
    takes 3 us more for one. The index must stay open; one thread at a time."""

    def __init__(self, index: Index, queries: NDArray[np.float32], k: int, setting: Params) -> None:
        self._rows = np.ascontiguousarray(queries, np.float32)
        self._structs, self._hits = np.zeros(len(queries), _QUERY), np.zeros((len(queries), k), _HIT)
        places = np.arange(len(queries), dtype=np.uintp)
        self._structs["vector"] = self._rows.ctypes.data + places * np.uintp(self._rows.strides[0])
        self._structs["hits"] = self._hits.ctypes.data + places * np.uintp(self._hits.strides[0])
        self._structs["k"], self._structs["score_threshold"] = k, -np.inf
        for name, value in setting.items():
            self._structs[name] = value
        self._search = _library.load().sac_index_search
        self._failure = _library.Failure()
        self._handle, self._error = index._handle, ctypes.byref(self._failure)
        self._first, self._step = self._structs.ctypes.data, _QUERY.itemsize

    def search(self, at: int, n: int) -> None:
        """Asks queries at .. at + n - 1 as one batch."""
        if self._search(self._handle, self._first + at * self._step, n, self._error) != 0:
            raise _library.error(self._failure.status, self._failure.text.decode("utf-8", "replace"))

    def ids(self) -> NDArray[np.int64]:
        """[n][k] of all that were asked so far; -1 where there are fewer."""
        missing = np.arange(self._hits.shape[1]) >= self._structs["hit_count"][:, np.newaxis]
        return np.where(missing, np.int64(-1), self._hits["label"].astype(np.int64))
