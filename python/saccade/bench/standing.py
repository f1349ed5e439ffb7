"""Who is faster: fronts of what was measured, and ours by the best of the others at the same recall."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .run import words_of

OURS = "saccade"
FAISS = "faiss-ivfpq"  # whose building is held against ours
ID_BYTES, NORM_BYTES = 8, 4  # that a vector takes beside its code
MISSED_MIN = 5e-4  # a recall nearer to 1 is not told apart

Results = dict[str, Any]
Figure = dict[str, Any]


def best(results: Results, mode: str, target: float) -> dict[str, Figure]:
    """Of every engine the figure with the most queries a second at no less than a recall."""
    found: dict[str, Figure] = {}
    for figure in results["figures"]:
        if figure["mode"] == mode and figure["recall"] >= target:
            if figure["engine"] not in found or figure["qps"] > found[figure["engine"]]["qps"]:
                found[figure["engine"]] = figure
    return found


def curves(results: Results, mode: str, value: str = "qps") -> dict[str, list[tuple[float, float]]]:
    """Of every engine (recall, value) of what no other of its figures beats, ascending in recall. value: "qps", where
    more is better, or "p99_us", where less is."""
    sign = -1 if value == "qps" else 1
    found: dict[str, list[tuple[float, float]]] = {}
    for engine in [e["name"] for e in results["engines"]]:
        points = [(f["recall"], f[value]) for f in results["figures"] if f["engine"] == engine and f["mode"] == mode]
        front: list[tuple[float, float]] = []
        for recall, v in sorted(points, key=lambda p: (-p[0], sign * p[1])):
            if not front or sign * v < sign * front[-1][1]:
                front.append((recall, v))
        if front:
            found[engine] = front[::-1]
    return found


def at_recall(results: Results, mode: str, target: float) -> dict[str, float]:
    """Of every engine that finds so much the queries a second at just this recall: between the measured settings on
    either side, log(queries/s) along log(1 - recall); where all find more, of the fastest."""
    found = {}
    for engine, front in curves(results, mode).items():
        above = [point for point in front if point[0] >= target]
        below = [point for point in front if point[0] < target]
        if above and below:
            found[engine] = _between(below[-1], above[0], target)
        elif above:
            found[engine] = above[0][1]
    return found


def _between(below: tuple[float, float], above: tuple[float, float], target: float) -> float:
    low, high, at = (math.log(max(1 - recall, MISSED_MIN)) for recall in (below[0], above[0], target))
    share = (at - low) / (high - low) if high != low else 1.0
    return float(below[1] ** (1 - share) * above[1] ** share)


# ---- ours by the others ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ratio:
    """value, and what it was taken of: a peer, or an index."""

    value: float
    of: str


def queries(results: Results, mode: str, target: float) -> dict[str, Ratio]:
    """Our queries a second by those of the best peer at the same recall: of "ivf", of "graph" and of "all"."""
    rates = at_recall(results, mode, target)
    families = {e["name"]: e["family"] for e in results["engines"]}
    found = {}
    for kind in ("ivf", "graph", "all"):
        peers = [name for name in rates if name != OURS and kind in (families[name], "all")]
        if OURS in rates and peers:
            peer = max(peers, key=lambda name: rates[name])
            found[kind] = Ratio(rates[OURS] / rates[peer], peer)
    return found


def builds(results: Results, mode: str, target: float) -> dict[str, Ratio]:
    """Seconds to build FAISS's IVF-PQ by those to build ours, of the index that is fastest at a recall: by FAISS's
    index that is "fastest" there too, and by the one of FAISS that is built "soonest"."""
    indexes = {i["index"]: i for i in results["indexes"]}
    theirs = [key for key, index in indexes.items() if index["engine"] == FAISS]
    top = best(results, mode, target)
    chosen = {"fastest": top[FAISS]["index"]} if FAISS in top else {}
    if theirs:
        chosen["soonest"] = min(theirs, key=lambda key: indexes[key]["seconds"])
    if OURS not in top:
        return {}
    seconds = indexes[top[OURS]["index"]]["seconds"]
    return {k: Ratio(indexes[key]["seconds"] / seconds, words_of(indexes[key]["params"])) for k, key in chosen.items()}


def memory(results: Results, mode: str, target: float) -> Ratio | None:
    """Bytes that our index counts beside its vectors by those of codes, ids and norms alone, of the index that is
    fastest at a recall; None where there is none, or it has no codes."""
    top = best(results, mode, target)
    key = top[OURS]["index"] if OURS in top else None
    facts: dict[str, Any] = next((i["facts"] for i in results["indexes"] if i["index"] == key), {})
    code_bytes = facts.get("m", 0) * facts.get("nbits", 0) / 8
    if code_bytes == 0:
        return None
    floor = results["data"]["count"] * (code_bytes + ID_BYTES + NORM_BYTES)
    return Ratio((facts["bytes_codes"] + facts["bytes_other"]) / floor, facts["spec"])
