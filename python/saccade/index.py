"""An index in this process: vectors in, nearest neighbours out."""

from __future__ import annotations

import ctypes
import math
import operator
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _library
from ._inputs import as_labels, as_rows
from .device import Device, Owned, default_device

_HIT = np.dtype(_library.Hit)
_QUERY = np.dtype(_library.Query)
_KEPT_HITS = 1 << 17  # 2 MB: larger batches make their buffers anew each time


@dataclass(frozen=True)
class Progress:
    """Where a long job stands. seconds_left is None while there is nothing to estimate it from."""

    stage: str
    done: int
    total: int
    seconds: float
    seconds_left: float | None


ProgressFn = Callable[[Progress], "bool | None"]
"""Called a few times a second, from one thread at a time; returning False cancels the job (Cancelled)."""


class RecallPoint(NamedTuple):
    """recall@10 measured with these settings: lists probed at most, candidates re-ranked, and how far lists may
    be (see sac_recall_point; 0: always nprobe lists)."""

    recall: float
    nprobe: int
    depth: int
    reach: float = 0.0


@dataclass(frozen=True)
class IndexInfo:
    """What an index is and holds; bytes_* are of memory."""

    dim: int
    metric: str
    spec: str  # what "auto" chose, once trained
    count: int
    trained: bool
    measured: bool
    nlist: int
    m: int
    nbits: int
    list_imbalance: float  # 1 when all lists are equally long
    bytes_codes: int
    bytes_vectors: int
    bytes_other: int
    bytes_vectors_host: int  # of bytes_vectors: in host memory, because the device is full


class Index(Owned):
    """Vectors under ids, searched by nearness.

    dim: components of a vector, 1 to 4096.
    metric: "l2" (squared Euclidean distance), "ip" (inner product) or "cosine".
    spec: as in FAISS's index factory: "Flat", "IVF4096,PQ32", "OPQ32,IVF4096,PQ32x4" (4 to 8 bits),
        "IVF4096,RaBitQ" (signs after a random rotation, for long vectors; on CPUs),
        "...,Refine(SQfp16)" and "...,Refine(SQ8)" to keep the vectors for re-ranking in half and in a quarter
        of the memory; "auto" chooses at training from count and dimension.
    seed: of training: the same seed, data and device give the same index.
    device: where it computes and with how many threads; None: the best one, all threads.

    Any number of threads may search at once, beside one that writes; writers take turns. Other threads run
    during calls. Vectors may be float16, float32, float64 or integers, in C or Fortran order, NumPy arrays
    or anything with ``__array__`` or DLPack; they are computed with as float32.

    >>> index = Index(128, metric="l2")
    >>> index.train(base)
    >>> index.add(base)
    >>> D, I = index.search(queries, 10, recall=0.95)
    """

    def __init__(
        self, dim: int, metric: str = "l2", spec: str = "auto", *, seed: int = 1, device: Device | None = None
    ) -> None:
        device = device or default_device()
        params = _library.IndexParams()
        library = _library.load()
        library.sac_index_params_init(params)
        params.dim, params.spec, params.seed = _unsigned("dim", dim), spec.encode(), _unsigned("seed", seed, 64)
        params.metric = _metric(metric)
        handle = ctypes.c_void_p()
        _library.check("sac_index_create", device.handle, params, ctypes.byref(handle))
        self._adopt(handle, device)

    def _adopt(self, handle: ctypes.c_void_p, device: Device) -> None:
        super().__init__(handle, "sac_index_close", device)
        info = self.info
        self.dim = info.dim
        self.metric = info.metric
        self._next_id: int | None = None  # found on the first add without ids
        self._value, self._worst = ("distance", np.inf) if self.metric == "l2" else ("score", -np.inf)
        self._search = _library.load().sac_index_search
        self._lone_asks: defaultdict[int, list[_Ask]] = defaultdict(list)  # by k; those that no call is using
        self._asks: list[_Ask] = []  # for batches

    # ---- filling -------------------------------------------------------------------------------------

    def train(self, x: ArrayLike, *, expected: int = 0, progress: ProgressFn | None = None) -> None:
        """Learns centroids and codebooks from x [n][dim]; a sample is drawn when there are more than needed.

        expected: how many vectors the index will hold, for "auto" (0: n). Flat needs no training.
        Raises InvalidArgument when x has fewer rows than the spec needs, or the index holds vectors already.
        """
        rows = as_rows(x, self.dim, "x")
        with _Callback(progress) as callback:
            _library.check("sac_index_train", self._handle, len(rows), rows.ctypes.data,
                           _unsigned("expected", expected, 64), callback, None)  # fmt: skip

    def add(self, x: ArrayLike, ids: ArrayLike | None = None, *, progress: ProgressFn | None = None) -> None:
        """Adds x [n][dim] under ids [n]: distinct whole numbers from 0 to 2^63-1 that the index does not hold.
        Without ids they are counted on from the largest one so far, starting at 0.

        Raises AlreadyExists (nothing is added then), InvalidArgument for NaN or infinity, an untrained
        index, and vectors of length 0 where the metric is cosine.
        """
        rows = as_rows(x, self.dim, "x")
        if ids is None:
            labels = np.arange(self._first_free(), self._first_free() + len(rows), dtype=np.uint64)
        else:
            labels = as_labels(ids, "ids")
        if len(labels) != len(rows):
            raise ValueError(f"ids: one for each of {len(rows)} vectors wanted, got {len(labels)}")
        with _Callback(progress) as callback:
            _library.check("sac_index_add", self._handle, len(rows), rows.ctypes.data, labels.ctypes.data,
                           callback, None)  # fmt: skip
        if len(labels) > 0 and self._next_id is not None:
            self._next_id = max(self._next_id, int(labels.max()) + 1)

    def _first_free(self) -> int:
        if self._next_id is None:
            self._next_id = int(self.ids().max(initial=-1)) + 1
        return self._next_id

    def remove_ids(self, ids: ArrayLike) -> int:
        """Removes those of ids [n] that are there; returns how many."""
        labels = as_labels(ids, "ids")
        removed = ctypes.c_size_t()
        _library.check("sac_index_delete", self._handle, len(labels), labels.ctypes.data, ctypes.byref(removed))
        return removed.value

    def measure(self, *, progress: ProgressFn | None = None) -> list[RecallPoint]:
        """Measures, on vectors the index holds, which settings reach which recall@10, and keeps the curve:
        from then on a search may ask for recall. Returns recall_curve."""
        with _Callback(progress) as callback:
            _library.check("sac_index_measure", self._handle, callback, None)
        return self.recall_curve

    # ---- asking --------------------------------------------------------------------------------------

    def search(
        self,
        x: ArrayLike,
        k: int = 10,
        *,
        recall: ArrayLike = 0.0,
        nprobe: ArrayLike = 0,
        depth: ArrayLike = 0,
        exact: ArrayLike = False,
        rescore: ArrayLike = True,
        score_threshold: ArrayLike = -math.inf,
        allow: ArrayLike | Sequence[ArrayLike | None] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k (1 to 1000) nearest of each row of x [n][dim], as (D, I), both [n][k], nearest first.

        I holds ids. D holds squared distances, ascending, where the metric is l2, and similarities,
        descending, where it is ip or cosine. Equal ones: smaller id first. Where fewer than k match, the
        rest is id -1 at +inf (l2) or -inf.

        Every other setting is one value, or [n] values, one for each query:
        recall: the recall@10 wanted, up to 1; picks nprobe and depth from the measured curve.
        nprobe: lists to look into; 0: from recall, or from a recall of 0.95.
        depth: candidates to re-rank against the vectors; 0: from the curve.
        exact: compare with every vector.
        rescore: False answers with the distances of the codes.
        score_threshold: hits below it are left out; a score is the similarity, or minus the squared distance.
        allow: ids that may be found, one array for all queries, or a list of n: an array or None (all) each.
            k come back whenever k of them are held; ids that are not held are passed over.
        """
        rows, k = as_rows(x, self.dim, "x"), _unsigned("k", k, low=1)
        n = len(rows)
        settings = _Settings(
            _setting("recall", recall, n),
            _setting("nprobe", nprobe, n),
            _setting("depth", depth, n),
            _setting("exact", exact, n),
            1 - _setting("rescore", rescore, n),
            _setting("score_threshold", score_threshold, n),
        )
        if n == 1 and allow is None:
            return self._search_one(rows, k, settings)
        return self._search_many(rows, k, settings, allow)

    # The engine answers a lone query in microseconds, so what it is asked with is made once and kept. Whoever takes it
    # from its list has it alone, whatever other threads do; after an error it is not put back.

    def _search_one(self, rows: NDArray[np.float32], k: int, settings: _Settings) -> _Answer:
        asks = self._lone_asks[k]
        try:
            ask = asks.pop()
        except IndexError:
            ask = _Ask(self, 1, k)
        query = ask.query
        query.recall, query.nprobe, query.depth, query.exact, query.no_rescore, query.score_threshold = settings
        ask.row[:] = rows
        ask(self._handle, 1)
        D, I, count = ask.values.copy(), ask.labels.copy(), query.hit_count
        asks.append(ask)
        if count < k:
            D[:, count:], I[:, count:] = self._worst, -1
        return D, I

    def _search_many(self, rows: NDArray[np.float32], k: int, settings: _Settings, allow: Any) -> _Answer:
        n = len(rows)
        try:
            ask = self._asks.pop()
        except IndexError:
            ask = None
        if ask is None or ask.n < n or ask.k != k:
            ask = _Ask(self, n, k)
        queries = ask.queries[:n]
        queries["vector"] = _addresses(rows)
        for name, value in zip(_Settings._fields, settings, strict=True):
            queries[name] = value
        kept = _allowed(allow, n, queries)
        ask(self._handle, n)
        D, I, counts = ask.values[:n].copy(), ask.labels[:n].copy(), queries["hit_count"]
        if counts.min(initial=k) < k:
            missing = np.arange(k) >= counts[:, np.newaxis]
            D[missing], I[missing] = self._worst, -1
        if not kept and ask.n * k <= _KEPT_HITS:  # `kept` is what its queries point to
            self._asks.append(ask)
        return D, I

    def reconstruct(self, id: int) -> NDArray[np.float32]:
        """The vector [dim] of an id, as it is held for re-ranking (length 1 for cosine). Raises NotFound."""
        vector = np.empty(self.dim, np.float32)
        _library.check("sac_index_reconstruct", self._handle, _unsigned("id", id, 64), vector.ctypes.data)
        return vector

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        found: list[int] = []

        def keep(context: object, label: int) -> bool:
            found.append(label)
            return True

        _library.load().sac_index_each_label(self._handle, _library.LabelFn(keep), None)
        return np.sort(np.array(found, np.int64))

    def __contains__(self, id: int) -> bool:
        return bool(_library.load().sac_index_contains(self._handle, _unsigned("id", id, 64)))

    def __len__(self) -> int:
        return self.info.count

    @property
    def ntotal(self) -> int:
        """The same as len(index), by FAISS's name."""
        return len(self)

    @property
    def is_trained(self) -> bool:
        return self.info.trained

    @property
    def info(self) -> IndexInfo:
        raw = _library.IndexInfo()
        _library.load().sac_index_describe(self._handle, raw)
        fields = {field[0]: getattr(raw, field[0]) for field in raw._fields_}
        metric = _library.text("sac_metric_name", raw.metric)
        return IndexInfo(**{**fields, "metric": metric, "spec": raw.spec.decode()})

    @property
    def recall_curve(self) -> list[RecallPoint]:
        """What measure() found, ascending in recall; empty before, and for Flat, whose recall is 1."""
        library = _library.load()
        count = library.sac_index_recall_curve(self._handle, None, 0)
        points = (_library.RecallPoint * count)()
        count = min(count, library.sac_index_recall_curve(self._handle, points, count))
        return [RecallPoint(p.recall, p.nprobe, p.depth, p.reach) for p in points[:count]]

    def __repr__(self) -> str:
        if not self._finalizer.alive:
            return "<saccade.Index closed>"
        info = self.info
        return f"<saccade.Index {info.spec} {info.metric}, {info.count} x {info.dim}>"

    # ---- keeping -------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint: written beside path, synced, then renamed over it."""
        _library.check("sac_index_save", self._handle, os.fsencode(path), True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: Device | None = None) -> Index:
        """Reads a checkpoint. Raises NotFound, Corrupt (checksum, length), VersionMismatch (newer format)."""
        device = device or default_device()
        handle = ctypes.c_void_p()
        _library.check(
            "sac_index_load", device.handle, os.fsencode(path), _library.VectorFn(), None, ctypes.byref(handle)
        )
        index = cls.__new__(cls)
        index._adopt(handle, device)
        return index


_Answer = tuple[NDArray[np.float32], NDArray[np.int64]]


class _Ask:
    """The arguments of a search of up to n queries for k hits each, and room for their answers: values and labels
    [n][k]. The first query has a row of its own and is there as a ctypes struct too."""

    def __init__(self, index: Index, n: int, k: int) -> None:
        self.n, self.k = n, k
        self.row = np.empty(index.dim, np.float32)
        hits = np.empty((n, k), _HIT)
        self.values, self.labels = hits[index._value], hits["label"].view(np.int64)  # which end at 2^63-1
        self.queries = np.zeros(max(n, 1), _QUERY)
        self.queries["k"], self.queries["hits"][:n] = k, _addresses(hits)
        self.query = _library.Query.from_buffer(self.queries.data)
        self.query.vector = self.row.ctypes.data
        self._failure = _library.Failure()
        self._first, self._failed, self._search = self.queries.ctypes.data, ctypes.byref(self._failure), index._search

    def __call__(self, handle: ctypes.c_void_p, n: int) -> None:
        if self._search(handle, self._first, n, self._failed) != 0:
            raise _library.error(self._failure.status, self._failure.text.decode("utf-8", "replace"))


class _Callback:
    """A progress function as a C callback. What it raises stops the job and is raised where the job was called."""

    def __init__(self, function: ProgressFn | None) -> None:
        self.function = function
        self.raised: BaseException | None = None

    def __enter__(self) -> Any:
        return _library.ProgressFn() if self.function is None else _library.ProgressFn(self._called)

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if self.raised is not None:
            raise self.raised from None

    def _called(self, context: object, raw: Any) -> bool:
        assert self.function is not None
        p = raw.contents
        left = p.seconds_left if p.seconds_left >= 0 else None
        try:
            return self.function(Progress(p.stage.decode(), p.done, p.total, p.seconds, left)) is not False
        except BaseException as error:  # a C caller cannot pass it on
            self.raised = error
            return False


def _metric(name: str) -> int:
    metric = ctypes.c_int()
    _library.check("sac_metric_parse", name.encode(), ctypes.byref(metric))
    return metric.value


def _unsigned(name: str, value: int, bits: int = 32, low: int = 0) -> int:
    """A whole number that fits the C type; ctypes would wrap others round without a word."""
    number = operator.index(value)
    if not low <= number < 2**bits:
        raise ValueError(f"{name}: {low} to 2^{bits}-1 wanted, got {number}")
    return number


def _allowed(allow: Any, n: int, queries: NDArray[Any]) -> list[NDArray[np.uint64]]:
    """Puts ids into queries; what is returned must live as long as they do."""
    if allow is None:
        return []
    several = isinstance(allow, (list, tuple)) and any(ids is None or np.ndim(ids) > 0 for ids in allow)
    if several and len(allow) != n:
        raise ValueError(f"allow: ids for each of {n} queries wanted, got {len(allow)}")
    known: dict[int, NDArray[np.uint64]] = {}
    for i in range(n):
        ids = allow[i] if several else allow
        if ids is None:
            continue
        if id(ids) not in known:  # an array given twice is looked up once
            labels = as_labels(ids, "allow")
            known[id(ids)] = labels if len(labels) > 0 else np.empty(1, np.uint64)[:0]
        queries["allow"][i] = known[id(ids)].ctypes.data
        queries["allow_count"][i] = len(known[id(ids)])
    return list(known.values())


class _Settings(NamedTuple):
    """By the fields of a query, of each one value or one for each query."""

    recall: Any
    nprobe: Any
    depth: Any
    exact: Any
    no_rescore: Any
    score_threshold: Any


# What search takes for them: types, NumPy's letters of what will do as well, and the range.
_RANGES: dict[str, tuple[tuple[type, ...], str, Any, Any]] = {
    "recall": ((float, int), "fiu", 0.0, 1.0),
    "nprobe": ((int,), "iu", 0, 2**32 - 1),
    "depth": ((int,), "iu", 0, 2**32 - 1),
    "exact": ((bool,), "b", False, True),
    "rescore": ((bool,), "b", False, True),
    "score_threshold": ((float,), "fiu", -math.inf, math.inf),
}


def _setting(name: str, value: ArrayLike, n: int) -> Any:
    """A number for all of n queries, or an array of one for each."""
    plain, kinds, low, high = _RANGES[name]
    if type(value) in plain and low <= value <= high:
        return value
    array = np.asarray(value)
    if array.dtype.kind not in kinds or array.shape not in ((), (n,)):
        raise ValueError(f"{name}: one value or [{n}] values wanted, got {value!r}")
    if not np.all((array >= low) & (array <= high)):
        raise ValueError(f"{name}: {low} to {high} wanted, got {value!r}")
    return array.item() if array.size == 1 else array


def _addresses(rows: NDArray[Any]) -> NDArray[np.uintp]:
    """Where each row of a C-contiguous array begins."""
    first, step = rows.ctypes.data, rows.shape[1] * rows.itemsize
    return np.arange(first, first + len(rows) * step, step, dtype=np.uintp)
