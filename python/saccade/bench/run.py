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
MARGIN = 0.2  # of what a target misses, on both sides of it: a glimpse sees some of the queries
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
    builds: int = 5  # indexes of each engine; 0: the whole grid
    settings: int = 10  # searches of each engine in each mode, of those worth measuring
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
    kept: dict[str, dict[str, list[Params]]] = field(default_factory=dict)  # [key of an index][mode]: what is measured

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

    def _glimpses(self, engine: str) -> list[measure.Mode]:
        """The modes in which an engine's settings are tried. Batches first: more queries tell recall better."""
        asked = {measure.glimpsed(measure.MODES[name], ENGINES[engine]) for name in self.options.modes}
        return sorted(asked, key=lambda mode: mode.single)

    def _batch(self, mode: measure.Mode) -> int:
        return 1 if mode.single else self.options.batch

    def _probes(self, mode: measure.Mode, **values: Any) -> Iterator[dict[str, Any]]:
        """What was tried in a mode. Records that name none are of an older kind, and not what is meant."""
        return self.log.find("probe", mode=mode.name, batch=self._batch(mode), **values)

    def _probe(self, index: Built) -> None:
        """A glimpse in every mode of every setting that nothing before has shown to be hopeless there."""
        grid = ENGINES[index.engine].settings(self.data.shape, index.params)
        modes = self._glimpses(index.engine)
        todo = [(s, m) for s in grid for m in modes if not any(self._probes(m, index=index.key, setting=s))]
        if not todo:
            return
        say(f"trying the settings of {index.label}")
        try:
            engine = self._loaded(index)
            with machine.pinned():
                engine.prepare(grid[0])
                for mode in dict.fromkeys(mode for _, mode in todo):  # what is paid once is no setting's fault
                    measure.glimpse(engine, self.data, mode, self._batch(mode))
                for setting, mode in todo:
                    self._try(engine, index, setting, mode)
            engine.close()
        except Exception as error:  # whatever a peer raises, the others go on
            self._leave_out(index, f"failed while its settings were tried: {error}")

    def _try(self, engine: Engine, index: Built, setting: Params, mode: measure.Mode) -> None:
        found: Params = {"pruned": self._hopeless(index, setting, mode)}
        if not found["pruned"]:
            engine.prepare(setting)
            recall, qps = measure.glimpse(engine, self.data, mode, self._batch(mode))
            # What a setting finds is counted once, so that the modes do not differ by whom they asked.
            others = self.log.find("probe", index=index.key, setting=setting)
            counted = [r["recall"] for r in others if {"recall", "mode"} <= r.keys()]
            found = {"recall": counted[0] if counted else recall, "qps": qps}
        self.log.add("probe", index=index.key, setting=setting, mode=mode.name, batch=self._batch(mode), **found)

    def _hopeless(self, index: Built, setting: Params, mode: measure.Mode) -> str:
        """Why a setting is not even tried in a mode: one that is nowhere dearer has shown it."""
        front = [(r["recall"], r["qps"]) for r in self._probes(mode) if "recall" in r]
        tried = [r for r in self._probes(mode, index=index.key) if "recall" in r]
        for record in tried:
            cheaper = record["setting"]
            if not no_dearer(cheaper, setting):
                continue
            if record["recall"] > RECALL_MAX:
                return f"recall above {RECALL_MAX} with {words_of(cheaper)}"
            if record["qps"] * FAR_BEHIND < best_at(front, record["recall"]):
                return f"{FAR_BEHIND} times behind the front with {words_of(cheaper)}"
        return saturated([(r["setting"], r["recall"]) for r in tried], setting)

    def _worth_measuring(self, indexes: Sequence[Built]) -> dict[str, dict[str, list[Params]]]:
        """In each mode, of every engine those settings, over all its indexes, that are on its front or near it."""
        kept: dict[str, dict[str, list[Params]]] = {}
        for mode in self.options.modes:
            points: dict[str, list[Point]] = {}
            for b in indexes:
                tried = self._probes(measure.glimpsed(measure.MODES[mode], ENGINES[b.engine]), index=b.key)
                found = [Point(r["recall"], r["qps"], b.key, r["setting"]) for r in tried if "recall" in r]
                points.setdefault(b.engine, []).extend(found)
            front = [(p.recall, p.qps) for each in points.values() for p in each]
            for each in points.values():
                near = [p for p in each if p.qps * FAR_BEHIND >= best_at(front, p.recall)] or each[:1]
                for point in chosen(near, self.options.settings):
                    kept.setdefault(point.index, {}).setdefault(mode, []).append(point.setting)
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
        wanted = {
            b.key: [(measure.MODES[mode], s) for mode, settings in self.kept[b.key].items() for s in settings]
            for b in indexes
        }  # fmt: skip
        total = self.options.repetitions * sum(map(len, wanted.values()))
        done = 0
        for repetition in range(self.options.repetitions):
            for index in rng.sample(indexes, len(indexes)):
                todo = rng.sample(wanted[index.key], len(wanted[index.key]))
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
    """Those of one engine's points in one mode that are in range, not clearly beaten by another, and at most so many:
    what lies around a target is never left out, of the others those that lie closest to a neighbour are."""
    in_range = [p for p in points if RECALL_MIN <= p.recall <= RECALL_MAX]
    above = [p for p in points if p.recall > RECALL_MAX]
    if above:  # the fastest of those that find everything: it answers every target
        in_range.append(max(above, key=lambda p: p.qps))
    pairs = [(p.recall, p.qps) for p in in_range]
    kept = [p for p in in_range if best_at(pairs, p.recall) < p.qps * BEATEN]
    kept.sort(key=lambda p: (p.recall, p.qps))
    needed = [p for target in TARGETS for p in around(kept, target)]
    order = list(range(len(kept)))
    while len(order) > most:
        gaps = [
            (kept[order[at + 1]].recall - kept[order[at - 1]].recall, at)
            for at in range(1, len(order) - 1) if kept[order[at]] not in needed
        ]  # fmt: skip
        if not gaps:
            break
        del order[min(gaps)[1]]
    return [kept[i] for i in order]


def around(points: Sequence[Point], target: float) -> list[Point]:
    """Of points ascending in recall those of the front next to a recall, on either side of it, and next to a margin
    farther on each side: wherever the glimpse was wrong by less than the margin, the target lies between two."""
    margin = MARGIN * (1 - target)
    pairs = [(p.recall, p.qps) for p in points]
    front = [p for p in points if p.qps >= best_at(pairs, p.recall)]
    found = [next((p for p in front if p.recall >= bound), None) for bound in (target, target + margin)]
    found += [next((p for p in reversed(front) if p.recall < bound), None) for bound in (target, target - margin)]
    return [p for p in found if p]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
