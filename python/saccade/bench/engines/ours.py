"""saccade's own index."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ... import _library
from ...device import Device
from ...index import Index
from .base import Engine, Params, Shape, Singles, Unavailable, ladder, lists_for

_HIT = np.dtype(_library.Hit)
_QUERY = np.dtype(_library.Query)
_FILE = "index"


class Saccade(Engine):
    """Builds: "auto", then explicit lists and codes. Searches: by the recall asked for, then by lists probed and
    candidates re-ranked. Building includes measuring the curve that recall is asked by."""

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
        lists = lists_for(shape.count)
        codes = [m for m in (shape.dim // 4, shape.dim // 2) if m > 0 and shape.dim % m == 0]
        specs = ["auto"] + [f"IVF{n},PQ{m}" for n in (lists, 2 * lists) for m in codes]
        specs += [f"IVF{lists},PQ{m}x4" for m in codes[-1:]]
        return [{"spec": spec} for spec in specs]

    @classmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        asked = [{"recall": r} for r in (0.85, 0.88, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99, 0.995)]
        probes = ladder(4, min(256, lists_for(shape.count, 2.0)))
        return asked + [{"nprobe": n, "depth": d} for n in probes for d in (20, 40, 80, 160)]

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
        self._path = folder / _FILE
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

    def singles(self, queries: NDArray[np.float32], k: int) -> Singles:
        """The C function itself, with structs made beforehand, as FAISS is asked: Index.search takes 3 us more."""
        structs, hits = np.zeros(len(queries), _QUERY), np.zeros((len(queries), k), _HIT)
        rows = np.ascontiguousarray(queries, np.float32)
        places = np.arange(len(queries), dtype=np.uintp)
        structs["vector"] = rows.ctypes.data + places * np.uintp(rows.strides[0])
        structs["hits"] = hits.ctypes.data + places * np.uintp(hits.strides[0])
        structs["k"], structs["score_threshold"] = k, -np.inf
        for name, value in self._setting.items():
            structs[name] = value

        search = _library.load().sac_index_search
        failure = _library.Failure()
        handle, error = self._index._handle, ctypes.byref(failure)
        calls = [structs.ctypes.data + i * _QUERY.itemsize for i in range(len(queries))]

        def call(i: int, kept: object = (rows, structs, hits)) -> None:  # which `calls` holds the addresses of
            if search(handle, calls[i], 1, error) != 0:
                raise _library.error(failure.status, failure.text.decode("utf-8", "replace"))

        def decode(asked: Sequence[int], answers: object) -> NDArray[np.int64]:
            missing = np.arange(k) >= structs["hit_count"][:, np.newaxis]
            return np.where(missing, np.int64(-1), hits["label"].astype(np.int64))[list(asked)]

        return Singles(call, decode)

    def facts(self) -> Params:
        info = self._index.info
        return {name: getattr(info, name) for name in ("spec", "bytes_codes", "bytes_vectors", "bytes_other")}

    def close(self) -> None:
        self._index.close()
