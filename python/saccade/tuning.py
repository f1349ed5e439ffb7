"""Which index for a recall or a latency, and how to ask it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from . import _library
from ._inputs import as_array, as_rows
from .device import Device, default_device
from .index import ProgressFn, _Callback, _metric, _unsigned


@dataclass(frozen=True)
class Tuned:
    """An index that was tried, with the setting that suits the goal best, and what to expect of it at full count.

    Times are those of this machine, one query at a time, each query's least of a few rounds.
    """

    spec: str  # for Index
    nprobe: int  # for Index.search: these two (0: no lists),
    depth: int
    ask: float  # or this as recall=, after measure(); 0: nprobe and depth are the cheaper
    recall: float  # recall@k
    recall_error: float  # its standard error
    reaches: bool  # what was asked for, as far as the error lets it be told
    verified: bool  # by a second look: finer steps, and queries that did not choose the setting
    extrapolated: bool  # fewer vectors than there will be stood for all
    rows: int  # vectors it was tried with
    seconds_mean: float  # of a query
    seconds_p50: float
    seconds_p99: float
    batch_rate: float  # queries a second in batches of 1000; 0: not measured
    bytes: int  # memory of the whole index
    build_seconds: float

    @property
    def search(self) -> dict[str, Any]:
        """How to ask it: index.search(q, k, **best.search)."""
        if self.ask > 0:
            return {"recall": self.ask}
        return {"nprobe": self.nprobe, "depth": self.depth} if self.nprobe > 0 else {}


@dataclass(frozen=True)
class Tuning:
    """What tune() found."""

    best: Tuned
    tried: list[Tuned]  # the best first
    out_of_time: bool  # more would have been tried
    held_back: bool  # the queries were vectors held back
    query_count: int
    seconds: float


def tune(
    x: ArrayLike,
    *,
    recall: float | None = None,
    latency: float | None = None,
    memory: int = 0,
    k: int = 10,
    metric: str = "l2",
    queries: ArrayLike | None = None,
    count: int = 0,
    seconds: float = 120.0,
    seed: int = 1,
    device: Device | None = None,
    progress: ProgressFn | None = None,
) -> Tuning:
    """Finds the fastest index that reaches a recall, or the one with the best recall within a latency.

    x: vectors [n][dim], all or an even sample of `count`; at least 100.
    recall: share of the true k neighbours to find, up to 1; None: 0.95, or as much as the latency allows.
    latency: seconds that 99 of 100 queries may take, one at a time; None: as few as can be had.
    memory: bytes that the index may take; 0: any.
    queries: as users ask them [n][dim]; None: some of x are held back and ask.
    count: how many vectors the index will hold; 0: n.
    seconds: that this may take, about.

    Where nothing reaches the goal, best.reaches is False and best is what came nearest. Raises InvalidArgument
    for too few vectors, NaN, and a memory that no index fits; Cancelled when progress returned False.

    >>> found = saccade.tune(base, recall=0.95)
    >>> index = saccade.Index(base.shape[1], "l2", found.best.spec)
    >>> index.train(base); index.add(base); index.measure()
    >>> D, I = index.search(queries, 10, **found.best.search)
    """
    array = as_array(x, "x")
    if array.ndim != 2:
        raise ValueError(f"x: shape [n][dim] wanted, got {array.shape}")
    dim = array.shape[1]
    rows = as_rows(array, dim, "x")
    asked = None if queries is None else as_rows(queries, dim, "queries")
    device = device or default_device()
    library = _library.load()
    params = _library.TuneParams()
    library.sac_tune_params_init(params)
    params.dim, params.metric, params.k = dim, _metric(metric), _unsigned("k", k)
    params.n, params.vectors, params.count = len(rows), rows.ctypes.data, _unsigned("count", count, 64)
    if asked is not None:
        params.query_count, params.queries = len(asked), asked.ctypes.data
    params.latency = latency or 0.0
    params.recall = recall if recall is not None else 0.0 if latency is not None else 0.95
    params.memory, params.seconds, params.seed = _unsigned("memory", memory, 64), seconds, _unsigned("seed", seed, 64)
    found = ctypes.POINTER(_library.Tuning)()
    with _Callback(progress) as callback:
        _library.check("sac_tune", device.handle, params, callback, None, ctypes.byref(found))
    try:
        return _tuning(found.contents)
    finally:
        library.sac_tuning_free(found)


def _tuning(raw: Any) -> Tuning:
    tried = []
    for t in raw.at[: raw.count]:
        fields = {name: getattr(t, name) for name, _ in t._fields_}
        tried.append(Tuned(**{**fields, "spec": t.spec.decode(), "ask": round(t.ask, 3)}))
    return Tuning(tried[0], tried, raw.out_of_time, raw.held_back, raw.query_count, raw.seconds)
