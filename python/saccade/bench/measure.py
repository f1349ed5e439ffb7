"""One figure: how many queries a second, how long each takes, and what it finds."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from . import machine
from .data import DataSet
from .engines import Engine, Singles

WARM_UP = 50  # calls before the clock starts
SINGLES_MIN = 500  # asked in any case, or percentiles and recall say little
OVERHEAD_CALLS = 2_000
GLIMPSE_QUERIES = 400  # of a glimpse; in batches one whole batch at least
GLIMPSE_PASSES, GLIMPSE_SECONDS = 3, 0.25  # at most, but one pass in any case


@dataclass(frozen=True)
class Mode:
    name: str
    words: str
    single: bool
    threads: int  # 0: all


MODES = {
    mode.name: mode
    for mode in (
        Mode("one", "one thread, one query at a time", True, 1),
        Mode("batch", "one thread, batches", False, 1),
        Mode("all", "all threads, batches", False, 0),
    )
}


@dataclass(frozen=True)
class Figure:
    """us: microseconds of a single query, or of a batch divided by its queries. busy: share of the time that the
    thread did not run, because the machine was busy with other things; 0 where several threads work."""

    recall: float
    qps: float
    p50_us: float
    p99_us: float
    seconds: float
    queries: int
    busy: float


def figure(engine: Engine, data: DataSet, mode: Mode, batch: int, seconds: float) -> Figure:
    """Asks for about so many seconds with what the engine was prepared for. A thread that works alone is pinned."""
    k = data.truth.shape[1]
    queries = np.ascontiguousarray(data.queries)
    if mode.threads != 1:
        return _timed(engine.batches(queries, k, batch), data, batch, seconds, alone=False)
    with machine.pinned():
        if not mode.single:
            return _timed(engine.batches(queries, k, batch), data, batch, seconds, alone=True)
        if not engine.native_loop:
            return _timed(engine.singles(queries, k), data, 1, seconds, alone=True)
        # The engine's own loop says how fast it is; calls one by one, how the times are spread.
        calls = _timed(engine.singles(queries, k), data, 1, seconds / 2, alone=True)
        loop = _timed(engine.batches(queries, k, batch), data, batch, seconds / 2, alone=True)
        return Figure(calls.recall, loop.qps, calls.p50_us, calls.p99_us, calls.seconds + loop.seconds,
                      calls.queries + loop.queries, max(calls.busy, loop.busy))  # fmt: skip


def glimpsed(mode: Mode, engine: type[Engine]) -> Mode:
    """The mode in which glimpses choose what is measured in another: batches on one thread stand for those on all, and
    for a native loop over single queries, which is what is counted there."""
    return MODES["one" if mode.single and not engine.native_loop else "batch"]


def glimpse(engine: Engine, data: DataSet, mode: Mode, batch: int) -> tuple[float, float]:
    """(recall, queries a second) of some queries, one by one or in batches, by a thread that is pinned. Of each call
    the least of a few passes counts: the machine's other work is not what settings are chosen by."""
    count = GLIMPSE_QUERIES if mode.single else max(GLIMPSE_QUERIES, batch)
    queries, size, k = np.ascontiguousarray(data.queries[:count]), 1 if mode.single else batch, data.truth.shape[1]
    asked = engine.singles(queries, k) if mode.single else engine.batches(queries, k, size)
    calls = range(-(-len(queries) // size))
    least, answers = [float("inf")] * len(calls), []
    start = time.perf_counter()
    for _ in range(GLIMPSE_PASSES):
        answers = []
        for i in calls:
            before = time.perf_counter()
            answers.append(asked.call(i))
            least[i] = min(least[i], time.perf_counter() - before)
        if time.perf_counter() - start > GLIMPSE_SECONDS:
            break
    return data.recall(np.arange(len(queries)), asked.decode(calls, answers)), len(queries) / sum(least)


def _timed(asked: Singles, data: DataSet, size: int, seconds: float, alone: bool) -> Figure:
    """Calls 0, 1, 2 ... round and round: at least SINGLES_MIN queries, or all there are."""
    count = -(-len(data.queries) // size)
    at_least = min(count, -(-SINGLES_MIN // size))
    for i in range(min(WARM_UP, max(1, count // 4))):
        asked.call(i)
    answers: list[object] = []
    times: list[int] = []
    clock, call = time.perf_counter_ns, asked.call
    cpu = time.thread_time()
    start = now = clock()
    end = start + int(seconds * 1e9)
    done = 0
    while now < end or done < at_least:
        before = now
        answer = call(done % count)
        now = clock()
        times.append(now - before)
        if done < count:
            answers.append(answer)
        done += 1
    elapsed = (now - start) / 1e9
    cpu = time.thread_time() - cpu

    first = range(min(done, count))
    ids = asked.decode(first, answers)
    rows = np.concatenate([np.arange(i * size, min((i + 1) * size, len(data.queries))) for i in first])
    sizes = np.array([min(size, len(data.queries) - (i % count) * size) for i in range(done)])
    each = np.array(times) / sizes / 1e3
    return Figure(
        recall=data.recall(rows, ids), qps=float(sizes.sum()) / elapsed, p50_us=float(np.percentile(each, 50)),
        p99_us=float(np.percentile(each, 99)), seconds=elapsed, queries=int(sizes.sum()),
        busy=max(0.0, 1 - cpu / elapsed) if alone else 0.0,
    )  # fmt: skip


def overhead(engine: type[Engine], data: DataSet) -> float:
    """Microseconds of a call that has next to nothing to search: as many vectors as neighbours are wanted."""
    k = data.truth.shape[1]
    tiny = engine.tiny(np.ascontiguousarray(data.base[:k]), data.metric)
    tiny.threads(1)
    queries = np.ascontiguousarray(data.queries[:100])
    asked = tiny.singles(queries, k)
    times = []
    with machine.pinned():
        for i in range(OVERHEAD_CALLS):
            before = time.perf_counter_ns()
            asked.call(i % len(queries))
            times.append(time.perf_counter_ns() - before)
    tiny.close()
    return statistics.median(times) / 1e3
