"""A comparison: which indexes are built, which of their settings are worth measuring, in which order, and what was
measured already. Everything found out is a line of a log, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import child, machine, measure
from .data import DataSet
from .engines import ENGINES, Engine, Params, Unavailable

RECALL_MIN, RECALL_MAX = 0.85, 0.999  # what is measured lies between
TARGETS = (0.90, 0.95, 0.99)
PROBE_QUERIES = 400
FAR_BEHIND = 20  # times slower than the front at no less recall: hopeless
SAME_RECALL = 0.0005  # apart at most: turning a number further did not help
BEATEN = 1.25  # times slower than another setting of the same engine at no less recall: not worth measuring
FIGURE_SECONDS_MIN = 0.15
BUILD_SHARE = 0.6  # of a bounded run: what is not built by then is named and left out


@dataclass(frozen=True)
class Options:
    engines: tuple[str, ...] = tuple(ENGINES)
    modes: tuple[str, ...] = tuple(measure.MODES)
    batch: int = 1_000
    repetitions: int = 3
    figure_seconds: float = 1.0
    seconds: float = 0.0  # of the whole run; 0: as long as it takes
    builds: int = 3  # indexes of each engine; 0: the whole grid
    settings: int = 10  # searches of each engine, of those worth measuring
    seed: int = 1


@dataclass(frozen=True)
class Built:
    """One index of one engine, or the wish for one. key names it in the log and on disk."""

    engine: str
    version: str
    params: Params

    @property
    def key(self) -> str:
        words = json.dumps([self.engine, self.version, self.params], sort_keys=True)
        return f"{self.engine}-{hashlib.sha256(words.encode()).hexdigest()[:10]}"

    @property
    def label(self) -> str:
        return f"{self.engine} {words_of(self.params)}".strip()


def words_of(params: Params) -> str:
    """{"nprobe": 8, "ef": 3} as people write it: "nprobe 8, ef 3"; the name goes without saying where it does."""
    bare = ("factory", "spec")
    return ", ".join(str(v) if name in bare else f"{name} {v}" for name, v in params.items())


class Log:
    """Records in a file of JSON lines; a line that was cut off when a run was killed is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    self.records.append(json.loads(line))
                except json.JSONDecodeError:
                    continue

    def add(self, kind: str, **values: Any) -> dict[str, Any]:
        record = {"kind": kind, **values}
        self.records.append(record)
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")
        return record

    def find(self, kind: str, **values: Any) -> Iterator[dict[str, Any]]:
        for record in self.records:
            if record["kind"] == kind and all(record.get(name) == value for name, value in values.items()):
                yield record

    def first(self, kind: str, **values: Any) -> dict[str, Any] | None:
        return next(self.find(kind, **values), None)


@dataclass
class Comparison:
    """One data set, all engines. run() measures; what it has found is in `log`, `missing` and `left_out`."""

    data: DataSet
    options: Options
    work: Path
    why_missing: dict[str, str] = field(default_factory=dict)  # package: why it was not installed
    missing: dict[str, str] = field(default_factory=dict)  # engine: why it takes no part
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (index, why it was not measured)
    kept: dict[str, list[Params]] = field(default_factory=dict)  # key of an index: settings that are measured

    def __post_init__(self) -> None:
        name = f"{self.data.name}-{self.data.hash[:10]}-k{self.data.truth.shape[1]}"
        self.log = Log(self.work / "runs" / f"{name}.jsonl")
        self.indexes = self.work / "indexes" / self.data.hash[:10]
        self.began = time.monotonic()

    def run(self) -> None:
        wanted = self._wanted()
        built = [b for b in wanted if self._build(b)]
        for b in built:
            self._probe(b)
        self.kept = self._worth_measuring([b for b in built if self.log.first("loaded", index=b.key)])
        self._overheads(built)
        self._measure([b for b in built if self.kept.get(b.key)])

    @property
    def left(self) -> float:
        """Seconds until the run must end."""
        return self.options.seconds - (time.monotonic() - self.began) if self.options.seconds else float("inf")

    # ---- building ------------------------------------------------------------------------------------

    def _wanted(self) -> list[Built]:
        """The first index of every engine, then the second of every engine, and so on; graphs after all others, since
        they take minutes and a bounded run may end before."""
        grids: list[list[Built]] = []
        for name in self.options.engines:
            engine = ENGINES[name]
            try:
                version = engine.version()
            except Unavailable as error:
                reason = self.why_missing.get(engine.package)
                self.missing[name] = f"{error}: {reason}" if reason else str(error)
                say(f"{name} takes no part: {self.missing[name]}")
                continue
            grid = engine.builds(self.data.shape)[: self.options.builds or None]
            grids.append([Built(name, version, params) for params in grid])
        rounds = [grid[i] for i in range(max(map(len, grids), default=0)) for grid in grids if i < len(grid)]
        return sorted(rounds, key=lambda index: ENGINES[index.engine].family == "graph")

    def _build(self, wanted: Built) -> bool:
        folder = self.indexes / wanted.key
        if folder.exists() and self.log.first("built", index=wanted.key):
            return True
        limit = self.left - self.options.seconds * (1 - BUILD_SHARE) if self.options.seconds else 86_400.0
        if limit < 1:
            return self._leave_out(wanted, f"not built: {BUILD_SHARE:.0%} of --seconds went into building others")
        say(f"building {wanted.label}")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            base = self.data.folder / "base.npy"
            facts = child.build(wanted.engine, base, self.data.metric, wanted.params, folder, limit)
        except child.BuildFailed as error:
            return self._leave_out(wanted, str(error))
        self.log.add(
            "built", index=wanted.key, engine=wanted.engine, version=wanted.version, params=wanted.params, **facts
        )
        say(f"  {facts['seconds']:.1f} s on {facts['threads']} threads")
        return True

    def _leave_out(self, index: Built, reason: str) -> bool:
        self.left_out.append((index.label, reason))
        say(f"  left out: {reason}")
        return False

    # ---- looking which settings are worth it ------------------------------------------------------------

    def _loaded(self, index: Built) -> Engine:
        """An engine with its index in memory; the first time, how much that takes is noted."""
        before = machine.held()
        engine = ENGINES[index.engine]()
        engine.load(self.indexes / index.key, self.data.shape, index.params)
        engine.threads(1)
        if self.log.first("loaded", index=index.key) is None:
            engine.prepare(ENGINES[index.engine].settings(self.data.shape, index.params)[0])
            engine.batch(np.ascontiguousarray(self.data.queries[:10]), self.data.truth.shape[1])
            self.log.add("loaded", index=index.key, bytes=machine.held() - before, facts=engine.facts())
        return engine

    def _probe(self, index: Built) -> None:
        """One pass of some queries over every setting that nothing before has shown to be hopeless."""
        grid = ENGINES[index.engine].settings(self.data.shape, index.params)
        if all(self.log.first("probe", index=index.key, setting=setting) for setting in grid):
            return
        say(f"trying the settings of {index.label}")
        try:
            engine = self._loaded(index)
        except Exception as error:  # whatever a peer raises, the others go on
            self._leave_out(index, f"not loaded: {error}")
            return
        queries = np.ascontiguousarray(self.data.queries[:PROBE_QUERIES])
        with machine.pinned():
            for setting in grid:
                if self.log.first("probe", index=index.key, setting=setting):
                    continue
                reason = self._hopeless(index, setting)
                if reason:
                    self.log.add("probe", index=index.key, setting=setting, pruned=reason)
                    continue
                engine.prepare(setting)
                start = time.perf_counter()
                ids = engine.batch(queries, self.data.truth.shape[1])
                seconds = time.perf_counter() - start
                recall = self.data.recall(np.arange(len(queries)), ids)
                self.log.add("probe", index=index.key, setting=setting, recall=recall, qps=len(queries) / seconds)
        engine.close()

    def _hopeless(self, index: Built, setting: Params) -> str:
        """Why a setting is not even tried: one that is nowhere dearer has shown it."""
        front = self._front()
        for record in self.log.find("probe", index=index.key):
            cheaper = record["setting"]
            if "recall" not in record or not no_dearer(cheaper, setting):
                continue
            if record["recall"] > RECALL_MAX:
                return f"recall above {RECALL_MAX} with {words_of(cheaper)}"
            if record["qps"] * FAR_BEHIND < best_at(front, record["recall"]):
                return f"{FAR_BEHIND} times behind the front with {words_of(cheaper)}"
        tried = [(r["setting"], r["recall"]) for r in self.log.find("probe", index=index.key) if "recall" in r]
        return saturated(tried, setting)

    def _front(self) -> list[tuple[float, float]]:
        return [(r["recall"], r["qps"]) for r in self.log.find("probe") if "recall" in r]

    def _worth_measuring(self, indexes: Sequence[Built]) -> dict[str, list[Params]]:
        """Of every engine those probes, over all its indexes, that are on its front or near it."""
        kept: dict[str, list[Params]] = {}
        everything = self._front()
        for name in dict.fromkeys(b.engine for b in indexes):
            points = [
                Point(r["recall"], r["qps"], b.key, r["setting"])
                for b in indexes if b.engine == name
                for r in self.log.find("probe", index=b.key) if "recall" in r
            ]  # fmt: skip
            points = [p for p in points if p.qps * FAR_BEHIND >= best_at(everything, p.recall)] or points[:1]
            for point in chosen(points, self.options.settings):
                kept.setdefault(point.index, []).append(point.setting)
        return kept

    # ---- measuring ----------------------------------------------------------------------------------------

    def _overheads(self, built: Sequence[Built]) -> None:
        for name, version in dict.fromkeys((b.engine, b.version) for b in built):
            if self.log.first("overhead", engine=name, version=version) is None:
                try:
                    self.log.add(
                        "overhead", engine=name, version=version, us=measure.overhead(ENGINES[name], self.data)
                    )
                except Exception as error:  # a peer that has no tiny index still takes part
                    self.log.add("overhead", engine=name, version=version, us=None, why=str(error))

    def _measure(self, indexes: Sequence[Built]) -> None:
        """Round after round over all indexes, each time in another order, so that what the machine does meanwhile
        falls on all alike. Inside an index, first what runs on one thread."""
        rng = random.Random(self.options.seed)
        modes = [measure.MODES[name] for name in self.options.modes]
        total = self.options.repetitions * len(modes) * sum(len(self.kept[b.key]) for b in indexes)
        done = 0
        for repetition in range(self.options.repetitions):
            for index in rng.sample(indexes, len(indexes)):
                todo = [(m, s) for m in modes for s in self.kept[index.key]]
                rng.shuffle(todo)
                todo.sort(key=lambda pair: pair[0].threads != 1)
                todo_now = [(m, s) for m, s in todo if not self._figure_of(index, s, m, repetition)]
                done += len(todo) - len(todo_now)
                if todo_now and self.left > 0:
                    self._measure_index(index, todo_now, repetition, done, total)
                done += len(todo_now)

    def _figure_of(self, index: Built, setting: Params, mode: measure.Mode, repetition: int) -> dict[str, Any] | None:
        return self.log.first(
            "figure", index=index.key, setting=setting, mode=mode.name, repetition=repetition, batch=self.options.batch
        )

    def _measure_index(self, index: Built, todo: Sequence[tuple[measure.Mode, Params]], repetition: int, done: int,
                       total: int) -> None:  # fmt: skip
        try:
            engine = self._loaded(index)
            for mode, setting in todo:
                if self.left <= 0:
                    break
                seconds = max(FIGURE_SECONDS_MIN, min(self.options.figure_seconds, self.left / (total - done) * 0.8))
                engine.threads(mode.threads or machine.cores())
                engine.prepare(setting)
                figure = measure.figure(engine, self.data, mode, self.options.batch, seconds)
                self.log.add("figure", index=index.key, setting=setting, mode=mode.name, repetition=repetition,
                             batch=self.options.batch, **asdict(figure))  # fmt: skip
                done += 1
                say(f"[{done}/{total}] {index.label}, {words_of(setting)}: {mode.words}: "
                    f"{figure.qps:,.0f}/s at recall {figure.recall:.4f}")  # fmt: skip
            engine.close()
        except Exception as error:  # whatever a peer raises, the others go on
            self._leave_out(index, f"failed while being measured: {error}")


# ---- choosing ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    recall: float
    qps: float
    index: str
    setting: Params


def no_dearer(a: Params, b: Params) -> bool:
    """Whether every number of a is at most that of b, where both have the same names."""
    return a.keys() == b.keys() and all(a[name] <= b[name] for name in a)


def saturated(tried: Sequence[tuple[Params, float]], setting: Params) -> str:
    """Why turning one number of a setting further is of no use: its last two steps, all else equal, found the same."""
    for name in setting:
        steps = sorted(
            (other[name], recall) for other, recall in tried
            if other.keys() == setting.keys() and other[name] < setting[name]
            and all(other[n] == setting[n] for n in setting if n != name)
        )  # fmt: skip
        if len(steps) > 1 and len(setting) > 1 and steps[-1][1] - steps[-2][1] < SAME_RECALL:
            return f"{name} {steps[-1][0]} found no more than {steps[-2][0]}"
    return ""


def best_at(points: Sequence[tuple[float, float]], recall: float) -> float:
    """The most queries a second among (recall, queries a second) at no less recall."""
    return max((qps for r, qps in points if r >= recall), default=0.0)


def chosen(points: Sequence[Point], most: int) -> list[Point]:
    """Those of one engine's points that are in range, not clearly beaten by another, and at most so many: what is
    fastest near each target is never left out, of the others those that lie closest to a neighbour are."""
    in_range = [p for p in points if RECALL_MIN <= p.recall <= RECALL_MAX]
    above = [p for p in points if p.recall > RECALL_MAX]
    if above:  # the fastest of those that find everything: it answers every target
        in_range.append(max(above, key=lambda p: p.qps))
    pairs = [(p.recall, p.qps) for p in in_range]
    kept = [p for p in in_range if best_at(pairs, p.recall) < p.qps * BEATEN]
    kept.sort(key=lambda p: (p.recall, p.qps))
    needed = set()
    for target in TARGETS:
        for slack in (-0.004, 0.0, 0.004):  # the probe saw some of the queries
            near = [i for i, p in enumerate(kept) if p.recall >= target + slack]
            needed |= {max(near, key=lambda i: kept[i].qps)} if near else set()
    order = list(range(len(kept)))
    while len(order) > most:
        gaps = [
            (kept[order[at + 1]].recall - kept[order[at - 1]].recall, at)
            for at in range(1, len(order) - 1) if order[at] not in needed
        ]  # fmt: skip
        if not gaps:
            break
        del order[min(gaps)[1]]
    return [kept[i] for i in order]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
