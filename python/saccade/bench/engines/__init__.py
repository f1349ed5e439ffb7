"""The engines that are compared, ours first; the order is that in which they are built."""

from __future__ import annotations

from .base import Engine, Params, Shape, Singles, Unavailable
from .brute import BruteForce
from .faiss import FaissFastScan, FaissFlatLists, FaissHnsw, FaissRabitq
from .hnswlib import Hnswlib
from .ngt import Ngt
from .ours import Saccade
from .scann import Scann
from .svs import Svs
from .usearch import Usearch

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (
        Saccade, FaissFastScan, FaissFlatLists, FaissRabitq, Scann, Hnswlib, Svs, Usearch, FaissHnsw, Ngt, BruteForce,
    )
}  # fmt: skip

PACKAGES = tuple(dict.fromkeys(e.package for e in ENGINES.values() if e.package))
"""What pip installs for them."""

__all__ = ["ENGINES", "PACKAGES", "Engine", "Params", "Shape", "Singles", "Unavailable"]
