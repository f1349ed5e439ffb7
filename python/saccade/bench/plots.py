"""The pictures of a comparison, as SVG, by matplotlib where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import measure
from .run import words_of
from .standing import OURS, Results, curves

_COLOURS = "#4477aa #ee6677 #228833 #ccbb44 #66ccee #aa3377 #bb8855 #888888 #44bb99 #332288".split()
_MARKS = "sDv^<>pXhP"


def draw(results: Results, folder: Path, stem: str) -> list[Path]:
    """Recall against queries/s in every mode, recall against p99, building and memory; none without matplotlib."""
    if not _ready(stem):
        return []
    paths = []
    for mode in results["options"]["modes"]:
        paths.append(folder / f"{stem}-{mode}.svg")
        _curves(results, mode, "qps", "queries/s", paths[-1])
    if "one" in results["options"]["modes"]:
        paths.append(folder / f"{stem}-p99.svg")
        _curves(results, "one", "p99_us", "99th percentile, us", paths[-1])
    paths.append(folder / f"{stem}-build.svg")
    _bars(results, paths[-1])
    return paths


def draw_batches(results: Results, path: Path) -> list[Path]:
    """Size of a batch against the time of a query, and which sizes are slow; none without matplotlib."""
    if not _ready(path.stem):
        return []
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.5))
    for at, threads in enumerate(dict.fromkeys(p["threads"] for p in results["points"])):
        points = [p for p in results["points"] if p["threads"] == threads]
        words = "one thread" if threads == 1 else f"{threads} threads"
        axes.plot([p["size"] for p in points], [p["us"] for p in points], color=_COLOURS[at], marker=_MARKS[at],
                  markersize=3, linewidth=1.2, label=words)  # fmt: skip
        axes.plot([p["size"] for p in points], [p["cpu_us"] for p in points], color=_COLOURS[at], linestyle=":",
                  linewidth=1.2, label=f"{words}, processor time")  # fmt: skip
        for mark, value in (("slower", "us"), ("dearer", "cpu_us")):
            slow = [p for p in points if p[mark]]
            axes.plot([p["size"] for p in slow], [p[value] for p in slow], "o", color="red", fillstyle="none",
                      label="15 % above a smaller size" if at == 0 and mark == "slower" else None)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("queries in a batch")
    axes.set_ylabel("us a query")
    axes.grid(True, alpha=0.25)
    axes.set_title(f"{results['data']['name']}, {results['index']['spec']}, recall {results['recall']:.3f}")
    axes.legend(fontsize=8)
    _save(figure, path)
    return [path]


def _ready(stem: str) -> bool:
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = stem  # the same figures give the same file
    return True


def _style(results: Results) -> dict[str, dict[str, Any]]:
    peers = [e["name"] for e in results["engines"] if e["name"] != OURS]
    styles: dict[str, dict[str, Any]] = {OURS: {"color": "black", "marker": "o", "linewidth": 2.2, "zorder": 3}}
    for i, name in enumerate(peers):
        styles[name] = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKS[i % len(_MARKS)], "linewidth": 1.2}
    return styles


def _curves(results: Results, mode: str, value: str, label: str, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 5))
    styles = _style(results)
    for name, points in curves(results, mode, value).items():
        # The last nines are where engines differ: the axis is of what is missing.
        missed = [max(1 - recall, 5e-4) for recall, _ in points]
        axes.plot(missed, [v for _, v in points], label=name, markersize=4, **styles[name])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    ticks = [0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001]
    axes.set_xticks(ticks, [f"{1 - t:g}" for t in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"recall@{results['k']}")
    axes.set_ylabel(label)
    axes.grid(True, which="both", alpha=0.25)
    axes.set_title(f"{results['data']['name']}: {measure.MODES[mode].words}")
    if axes.has_data():
        axes.legend(fontsize=8)
    _save(figure, path)


def _bars(results: Results, path: Path) -> None:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 0.32 * len(results["indexes"]) + 1.5), sharey=True)
    styles = _style(results)
    indexes = sorted(results["indexes"], key=lambda i: -i["seconds"])
    labels = [f"{i['engine']} {words_of(i['params'])}" for i in indexes]
    colours = [styles[i["engine"]]["color"] for i in indexes]
    left.barh(labels, [i["seconds"] for i in indexes], color=colours)
    left.set_xlabel("built in s")
    left.tick_params(axis="y", labelsize=7)
    right.barh(labels, [i["bytes"] / 1e6 for i in indexes], color=colours)
    right.set_xlabel("memory, MB")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
