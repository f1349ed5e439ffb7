"""python -m saccade.bench.batches: what a query costs in batches of every size.

Every power of two and its neighbours, on one thread and on all, by wall clock and by processor time; the least of
several rounds, each in another order. A size is marked where a query costs 15 % more than at the best of the sizes from
half of it up to it: whoever has so many queries would do better to ask twice.

  python -m saccade.bench.batches                                     generated vectors, "auto": a few minutes
  python -m saccade.bench.batches --data DIR --spec IVF4096,PQ32 --recall 0.9
  python -m saccade.bench.batches --data base.fvecs --queries query.fvecs --index FILE --nprobe 32 --depth 40

Data are named as in `python -m saccade.bench`, and taken from the same folder; so is an index that was built there.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import arguments, child, machine, plots, report
from . import data as data_sets
from .engines.ours import Saccade
from .measure import WARM_UP
from .run import Built, say, words_of

SLOWER = 1.15  # than the best neighbour below: marked

Point = dict[str, Any]


def main() -> int:
    options = _arguments()
    try:
        results = _results(options)
    except (ValueError, OSError, RuntimeError, child.BuildFailed) as error:
        say(f"bench: {error}")
        return 1
    folder, stem = options.out or options.work / "results", f"batches-{results['data']['name']}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.json", folder / f"{stem}.md"]
    paths[0].write_text(report.dumps(results))
    paths[1].write_text(markdown(results))
    drawn = plots.draw_batches(results, folder / f"{stem}.svg")
    if not drawn:
        say("no plot: matplotlib is not installed")
    paths += drawn
    print(paths[1].read_text())
    say(f"written: {' '.join(map(str, paths))}")
    return 0


def _results(options: argparse.Namespace) -> dict[str, Any]:
    data = arguments.prepared(options.data, options)
    engine = Saccade()
    folder = _index(options, data)
    engine.load(folder, data.shape, {})
    setting = {name: getattr(options, name) for name in ("recall", "nprobe", "depth") if getattr(options, name)}
    engine.prepare(setting)
    queries = np.ascontiguousarray(data.queries)
    recall = data.recall(np.arange(len(queries)), engine.batch(queries, options.k))
    # Repeated so that no batch is cut short: twice the same query in a batch is as much work as two others.
    asked = queries[np.arange(max(len(queries), 2 * options.most)) % len(queries)]
    points: list[Point] = []
    for threads in dict.fromkeys((1, machine.cores())):
        engine.threads(threads)
        search = engine.prepared(asked, options.k).search
        with machine.pinned() if threads == 1 else contextlib.nullcontext():
            measured = measure(search, len(asked), sizes(options.most), options.rounds, options.seconds, options.seed)
        points += [{"threads": threads, **point} for point in marked(measured)]
    facts = engine.facts()
    engine.close()
    return {
        "machine": machine.describe(), "data": data_sets.summary(data), "k": options.k, "index": facts,
        "setting": setting or {"recall": 0.95}, "recall": recall, "rounds": options.rounds, "seconds": options.seconds,
        "points": points,
    }  # fmt: skip


def _index(options: argparse.Namespace, data: data_sets.DataSet) -> Path:
    """The folder of the index asked for: given, built before by a comparison over the same data, or built now."""
    if options.index is not None:
        return Path(options.index)
    wanted = Built(Saccade.name, Saccade.version(), {"spec": options.spec})
    folder: Path = options.work / "indexes" / data.hash[:10] / wanted.key
    if not folder.exists():
        say(f"building {wanted.label}")
        child.build(wanted.engine, data.folder / "base.npy", data.metric, wanted.params, folder, 86_400.0)
    return folder


# ---- measuring -----------------------------------------------------------------------------------------


def sizes(most: int) -> list[int]:
    """1, 2, 3, 4, 5, 7, 8, 9, 15 ...: powers of two and their neighbours, up to `most`."""
    near = {2**i + step for i in range(most.bit_length() + 1) for step in (-1, 0, 1)}
    return sorted(size for size in near if 1 <= size <= most)


def measure(search: Callable[[int, int], None], count: int, wanted: Sequence[int], rounds: int, seconds: float,
            seed: int) -> list[Point]:  # fmt: skip
    """Of every size what a query takes: us and cpu_us, the least of the rounds; us_median. search(at, n) asks queries
    at .. at + n - 1 of `count`; a size gets `seconds` over all rounds."""
    times: dict[int, list[tuple[float, float]]] = {size: [] for size in wanted}
    order = random.Random(seed)
    for _ in range(rounds):
        for size in order.sample(wanted, len(wanted)):
            times[size].append(_timed(search, count, size, seconds / rounds))
    return [
        {"size": size, "us": min(wall for wall, _ in each), "us_median": statistics.median(wall for wall, _ in each),
         "cpu_us": min(cpu for _, cpu in each)}
        for size, each in times.items()
    ]  # fmt: skip


def _timed(search: Callable[[int, int], None], count: int, size: int, seconds: float) -> tuple[float, float]:
    """(wall, processor) microseconds of a query, over whole batches one after another."""
    for at in range(0, min(WARM_UP * size, WARM_UP, count - size + 1), size):
        search(at, size)
    at = done = 0
    cpu, start = time.process_time(), time.perf_counter()
    now = start
    while now - start < seconds:
        at = at if at + size <= count else 0
        search(at, size)
        at += size
        done += size
        now = time.perf_counter()
    return (now - start) / done * 1e6, (time.process_time() - cpu) / done * 1e6


def marked(points: Sequence[Point]) -> list[Point]:
    """The points, ascending in size. slower: the size from half of it up to it where a query takes least time, if here
    it takes SLOWER times that, else None. dearer: the same of processor time, which a busy machine does not change."""
    ascending = sorted(points, key=lambda p: p["size"])
    found = []
    for i, point in enumerate(ascending):
        near = [p for p in ascending[:i] if 2 * p["size"] >= point["size"]]
        marks: dict[str, int | None] = {}
        for mark, value in (("slower", "us"), ("dearer", "cpu_us")):
            best = min(near, key=lambda p: p[value], default=point)
            marks[mark] = best["size"] if point[value] > SLOWER * best[value] else None
        found.append({**point, **marks})
    return found


# ---- what is written -----------------------------------------------------------------------------------


def markdown(results: dict[str, Any]) -> str:
    m, d = results["machine"], results["data"]
    by_size: dict[int, list[Point]] = {}
    for point in results["points"]:
        by_size.setdefault(point["size"], []).append(point)
    threads = [p["threads"] for p in next(iter(by_size.values()))]
    words = " | ".join(f"{t} thread{'s' * (t > 1)}: queries/s | us | median us | processor us" for t in threads)
    lines = [
        f"# Batches of every size: {d['name']}", "",
        f"{m['date']}, commit {m['commit'] or 'unknown'}; {m['cpu']}, {m['cores']} cores, load {m['load']}. "
        f"{d['what']}: {d['count']:,} x {d['dim']}, {d['queries']:,} queries, sha256 {d['sha256'][:16]}; "
        f"{results['index']['spec']}, {words_of(results['setting'])}: "
        f"recall@{results['k']} {results['recall']:.4f}. us are of one query, the least of {results['rounds']} rounds.",
        "",
        f"| batch | {words} |", f"| ---: |{' ---: |' * (4 * len(threads))}",
    ]  # fmt: skip
    for size, points in by_size.items():
        cells = [
            f"{1e6 / p['us']:,.0f} | {p['us']:.1f}{' **slow**' if p['slower'] else ''} | {p['us_median']:.1f} | "
            f"{p['cpu_us']:.1f}{' **dear**' if p['dearer'] else ''}"
            for p in points
        ]  # fmt: skip
        lines.append(f"| {size} | {' | '.join(cells)} |")
    lines += ["", f"Where a query takes {SLOWER - 1:.0%} more than at a size between half of it and it:", ""]
    for mark, what in (("slower", "time"), ("dearer", "processor time")):
        for t in threads:
            slow = [f"{p['size']} (than {p[mark]})" for p in results["points"] if p["threads"] == t and p[mark]]
            lines.append(f"- {what}, {t} thread{'s' * (t > 1)}: {', '.join(slow) or 'nowhere'}")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m saccade.bench.batches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", default="clusters-small", metavar="NAME|FILE|DIR",
        help=f"what to search (clusters-small); names: {', '.join(data_sets.NAMES)}")  # fmt: skip
    arguments.add(parser)
    add("--spec", default="auto", help="of the index that is built (auto)")
    add("--index", type=Path, metavar="FILE", help="an index of these data that is there")
    add("--recall", type=float, default=0.0, help="wanted (0.95)")
    add("--nprobe", type=int, default=0, help="lists to look into, instead")
    add("--depth", type=int, default=0, help="candidates to re-rank, instead")
    add("--most", type=int, default=4097, metavar="N", help="the largest batch (4097)")
    add("--seconds", type=float, default=1.0, metavar="S", help="for each size and number of threads (1)")
    add("--rounds", type=int, default=5, metavar="N", help="that they are divided into (5)")
    options = parser.parse_args()
    for name in ("k", "most", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: 1 or more wanted")
    return options


if __name__ == "__main__":
    sys.exit(main())
