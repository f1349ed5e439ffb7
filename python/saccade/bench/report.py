"""What a comparison has found: medians, the best of every engine at each target, tables, JSON and CSV."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import data as data_sets
from . import machine, measure
from .engines import ENGINES
from .run import BUILD_SHARE, RECALL_MAX, RECALL_MIN, TARGETS, Comparison, words_of
from .standing import OURS, Figure, Ratio, Results, at_recall, best, builds, memory, queries

BUSY, WORTHLESS = 0.05, 0.2  # of the time a pinned thread waited: worth a word; nothing can be told from figures


def results(comparison: Comparison) -> Results:
    """Everything, as JSON holds it: of each repeated figure the median."""
    log = comparison.log
    built = {r["index"]: r for r in log.find("built")}
    loaded = {r["index"]: r for r in log.find("loaded")}
    figures = medians(r for r in log.find("figure", batch=comparison.options.batch) if r["index"] in built)
    for figure in figures:
        index = built[figure["index"]]
        mode = measure.MODES[figure["mode"]]
        figure.update(engine=index["engine"], version=index["version"], params=index["params"],
                      threads=mode.threads or machine.cores(), k=comparison.data.truth.shape[1],
                      batch=1 if mode.single else comparison.options.batch)  # fmt: skip
    # Whatever was measured of an engine in another version is another engine's business.
    current = {}
    for record in built.values():
        current[record["engine"]] = record["version"]
    figures = [f for f in figures if f["version"] == current[f["engine"]]]
    indexes = [
        {**{n: v for n, v in r.items() if n != "kind"}, "bytes": loaded[key]["bytes"], "facts": loaded[key]["facts"]}
        for key, r in built.items() if key in loaded and r["version"] == current[r["engine"]]
    ]  # fmt: skip
    engines = [
        {"name": name, "version": current[name], "family": engine.family, "native_loop": engine.native_loop,
         "grid": " ".join((engine.__doc__ or "").split()),
         "overhead_us": (log.first("overhead", engine=name, version=current[name]) or {}).get("us")}
        for name, engine in ENGINES.items() if name in current
    ]  # fmt: skip
    return {
        "machine": machine.describe(), "data": data_sets.summary(comparison.data), "k": comparison.data.truth.shape[1],
        "options": asdict(comparison.options), "recall_range": [RECALL_MIN, RECALL_MAX], "targets": list(TARGETS),
        "engines": engines, "missing": comparison.missing, "left_out": comparison.left_out,
        "indexes": indexes, "figures": figures,
    }  # fmt: skip


def medians(records: Iterable[dict[str, Any]]) -> list[Figure]:
    """One figure for each index, setting and mode, over its repetitions."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        key = json.dumps([record["index"], record["setting"], record["mode"]], sort_keys=True)
        groups.setdefault(key, []).append(record)
    return [
        {
            "index": group[0]["index"], "setting": group[0]["setting"], "mode": group[0]["mode"],
            "repetitions": len(group),
            "qps_least": min(r["qps"] for r in group), "qps_most": max(r["qps"] for r in group),
            "queries": sum(r["queries"] for r in group), "busy": max(r["busy"] for r in group),
            **{name: statistics.median(r[name] for r in group) for name in ("recall", "qps", "p50_us", "p99_us")},
        }
        for group in groups.values()
    ]  # fmt: skip


# ---- files -----------------------------------------------------------------------------------------------


def write(results: Results, folder: Path, stem: str) -> list[Path]:
    """stem.json, .csv and .md in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}{suffix}" for suffix in (".json", ".csv", ".md")]
    paths[0].write_text(dumps(results))
    write_csv(results, paths[1])
    paths[2].write_text(markdown(results))
    return paths


def dumps(results: Results) -> str:
    """JSON with a line for each figure and index: small, and its changes can be read."""
    parts = []
    for name, value in results.items():
        text = json.dumps(_rounded(value))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(json.dumps(_rounded(item)) for item in value) + "\n ]"
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _rounded(value: Any) -> Any:
    """To six digits, which is more than a measurement has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(v) for name, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


def write_csv(results: Results, path: Path) -> None:
    """A line for each figure, with all that it was taken on."""
    names = ["engine", "version", "index", "setting", "mode", "threads", "batch", "k", "recall", "qps", "qps_least",
             "qps_most", "p50_us", "p99_us", "queries", "repetitions", "busy"]  # fmt: skip
    shared = {"data": results["data"]["name"], "data_sha256": results["data"]["sha256"]}
    shared |= {name: results["machine"][name] for name in ("cpu", "cores", "commit", "date")}
    with open(path, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*names, *shared])
        for figure in sorted(results["figures"], key=lambda f: (f["mode"], f["engine"], f["recall"])):
            words = {"index": words_of(figure["params"]), "setting": words_of(figure["setting"])}
            values = [words.get(name, figure[name]) for name in names]
            out.writerow([round(v, 5) if isinstance(v, float) else v for v in values] + list(shared.values()))


def markdown(results: Results) -> str:
    lines = _head(results) + _standing(results)
    for mode in results["options"]["modes"]:
        lines += _mode_table(results, mode)
    lines += _winners(results) + _builds(results) + _absent(results)
    return "\n".join(lines) + "\n"


def _head(results: Results) -> list[str]:
    m, d = results["machine"], results["data"]
    versions = ", ".join(f"{e['name']} {e['version']}" for e in results["engines"])
    facts = [f"{name.replace('_', ' ')} {d[name]}" for name in d if name.startswith(("dimensions_of", "intrinsic"))]
    waits = max((f["busy"] for f in results["figures"] if f["threads"] == 1), default=0.0)
    lines = [
        f"# Searching side by side: {d['name']}", "",
        f"{m['date']}, commit {m['commit'] or 'unknown'}; {m['cpu']}, {m['cores']} cores, "
        f"{m['memory_bytes'] / 2**30:.0f} GiB, {m['system']}, Python {m['python']}. {versions}.", "",
        f"{d['what']}: {d['count']:,} x {d['dim']}, {d['queries']:,} queries, metric {d['metric']}, sha256 "
        f"{d['sha256'][:16]}. {'; '.join(facts)}. Truth: {d['truth']}. recall is recall@{results['k']}; a figure is "
        f"the median of {results['options']['repetitions']} repetitions, order shuffled between engines and settings; "
        "one-thread work is pinned to a core.",
    ]  # fmt: skip
    if waits > BUSY:
        meaning = "Take ratios as rough."
        if waits >= WORTHLESS:
            meaning = "These figures do not say who is faster: run it again when the machine is idle."
        lines += ["", f"**The machine was busy with other work**: a pinned thread waited up to {waits:.0%} of its "
                  f"time, and the load at the end was {m['load']}. {meaning}"]  # fmt: skip
    return lines


def _standing(results: Results) -> list[str]:
    """Ours beside the best of the others, in one table."""
    targets, modes = results["targets"], results["options"]["modes"]
    rows: list[tuple[str, list[Ratio | None]]] = []
    for mode in modes:
        found = [queries(results, mode, t) for t in targets]
        for kind, peer in (("ivf", "the best IVF-type peer"), ("graph", "the best graph"), ("all", "the best of all")):
            rows.append((f"queries/s, {measure.MODES[mode].words}: by {peer}", [f.get(kind) for f in found]))
    found = [builds(results, modes[0], t) for t in targets]
    for kind, words in (("fastest", "fastest there"), ("soonest", "built soonest")):
        what = f"building: seconds of FAISS's IVF-PQ that is {words} by those of ours"
        rows.append((what, [f.get(kind) for f in found]))
    held = [memory(results, modes[0], t) for t in targets]
    rows.append(("memory beside the vectors by codes + ids + norms (less is better)", held))
    lines = [
        f"| {words} | {' | '.join(f'{r.value:.2f} ({r.of})' if r else '-' for r in ratios)} |"
        for words, ratios in rows if any(ratios)
    ]  # fmt: skip
    if not lines:
        return []
    return [
        "", "## Ours by the best of the others", "",
        f"| at recall | {' | '.join(f'{t:.2f}' for t in targets)} |", f"| --- |{' ---: |' * len(targets)}", *lines, "",
        "Queries/s are at just these recalls, between the measured settings on either side (log of queries/s along the "
        "log of 1 - recall); of an engine that found more with all its settings, those of its fastest. Built and held "
        f"is the index of ours that is fastest there ({measure.MODES[modes[0]].words}).",
    ]  # fmt: skip


def _mode_table(results: Results, mode: str) -> list[str]:
    targets = results["targets"]
    columns = [f"{t:.2f}" for t in targets]
    lines = ["", f"## {measure.MODES[mode].words.capitalize()}, queries/s", "",
             f"| engine | {' | '.join(columns)} | ours / it, at each | p50 / p99 us at {columns[1]} or more |",
             f"| --- | {' | '.join('---:' for _ in columns)} | ---: | ---: |"]  # fmt: skip
    rates = [at_recall(results, mode, t) for t in targets]
    tops = best(results, mode, targets[1])
    names = [e["name"] for e in results["engines"] if any(e["name"] in rate for rate in rates)]
    for name in sorted(names, key=lambda n: -rates[1].get(n, 0)):
        cells = [f"{rate[name]:,.0f}" if name in rate else "-" for rate in rates]
        ratios = [f"{rate[OURS] / rate[name]:.2f}" if {OURS, name} <= rate.keys() else "-" for rate in rates]
        middle = tops.get(name)
        times = f"{middle['p50_us']:.0f} / {middle['p99_us']:.0f}" if middle else "-"
        label = f"**{name}**" if name == OURS else name
        lines.append(f"| {label} | {' | '.join(cells)} | {'' if name == OURS else ', '.join(ratios)} | {times} |")
    if measure.MODES[mode].single:
        costs = ", ".join(f"{e['name']} {e['overhead_us']:.1f}" for e in results["engines"] if e["overhead_us"])
        loops = ", ".join(e["name"] for e in results["engines"] if e["native_loop"])
        lines += ["", f"A call that finds next to nothing to search takes, in us: {costs}. It is in the figures above."]
        if loops:
            lines += [f"The queries/s of {loops} are without it: there a batch on one thread is the engine's own loop "
                      "over single queries, and that is what is counted."]  # fmt: skip
    else:
        lines += ["", f"Batches of {results['options']['batch']:,}; a percentile is of a batch's time by its queries."]
    return lines


def _winners(results: Results) -> list[str]:
    lines = ["", "## By which settings", "", "The fastest that was measured at no less than each recall:", "",
             "| mode | recall | engine | index | search | recall got | queries/s |",
             "| --- | ---: | --- | --- | --- | ---: | ---: |"]  # fmt: skip
    for mode in results["options"]["modes"]:
        for target in results["targets"]:
            for name, f in sorted(best(results, mode, target).items(), key=lambda item: -item[1]["qps"]):
                lines.append(f"| {mode} | {target:.2f} | {name} | {words_of(f['params'])} | {words_of(f['setting'])} | "
                             f"{f['recall']:.4f} | {f['qps']:,.0f} |")  # fmt: skip
    return lines


def _builds(results: Results) -> list[str]:
    lines = ["", "## Building and memory", "",
             "| engine | index | built in s | processor s | load before | memory MB | beside the vectors | disk MB |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    vectors = results["data"]["count"] * results["data"]["dim"] * 4
    for index in sorted(results["indexes"], key=lambda i: i["seconds"]):
        beside = f"{(index['bytes'] - vectors) / 1e6:,.0f}" if index["bytes"] > vectors else "-"
        lines.append(
            f"| {index['engine']} | {words_of(index['params'])} | {index['seconds']:.1f} | "
            f"{index['cpu_seconds']:.1f} | {index['load']} | {index['bytes'] / 1e6:,.0f} | {beside} | "
            f"{index['disk_bytes'] / 1e6:,.0f} |"
        )
    return [*lines, "", f"Built on {machine.cores()} threads in a process of its own. Memory: what a process grows by "
            f"when it loads the index and searches; the vectors as float32 are {vectors / 1e6:,.0f} MB."]  # fmt: skip


def _absent(results: Results) -> list[str]:
    lines = ["", "## Not in these tables", ""]
    lines += [f"- {name}: {' '.join(reason.split())}" for name, reason in results["missing"].items()]
    lines += [f"- {label}: {' '.join(reason.split())}" for label, reason in results["left_out"]]
    unasked = [name for name in ENGINES if name not in results["options"]["engines"]]
    if unasked:
        lines.append(f"- Not asked for: {', '.join(unasked)}.")
    lines.append(f"- Settings whose recall is not within {RECALL_MIN} to {RECALL_MAX}, and in each mode those far "
                 "behind the front or beaten by another of the engine; the log (runs/ beside the results) has "
                 "them.")  # fmt: skip
    if results["options"]["seconds"]:
        lines.append(f"- The run was bounded to {results['options']['seconds']:,.0f} s, of which building got "
                     f"{BUILD_SHARE:.0%}.")  # fmt: skip
    return lines
