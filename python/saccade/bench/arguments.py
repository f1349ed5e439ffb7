"""Options that say which data are searched, alike in every benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import data as data_sets
from .makers import Materials


def add(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--queries", type=Path, metavar="FILE", help="of the same vectors, where --data is a file of vectors")
    add("--truth", type=Path, metavar="FILE", help="true neighbours that you have; none: computed by FAISS")
    add("--metric", choices=("l2", "ip", "cosine"), help="of a file that does not say (l2)")
    add("--photos", type=Path, metavar="DIR", help="JPEGs that data sets are made of")
    add("--model", type=Path, metavar="DIR", help="config.json and model.safetensors, for vit-crops")
    add("--limit", type=int, default=0, metavar="N", help="only so many vectors")
    add("--k", type=int, default=10, help="neighbours wanted (10)")
    add("--query-count", type=int, default=2_000, metavar="N", help="queries that are used (2000; 0: all)")
    add("--seed", type=int, default=1, help="of the order and of what is made (1)")
    add("--work", type=Path, default=Path("build/bench"), metavar="DIR", help="data, indexes and logs (build/bench)")
    add("--out", type=Path, metavar="DIR", help="tables and plots (results in the above)")


def prepared(name: str, options: argparse.Namespace) -> data_sets.DataSet:
    """The data set that --data names, kept in the folder of --work."""
    materials = Materials(options.photos, options.model, options.seed, options.limit)
    folder = options.work / "data"
    if name in data_sets.NAMES:
        short, source = name, data_sets.named(name, materials, folder)
    else:
        short, source = data_sets.source_of(Path(name), options.queries, options.truth, options.metric, options.limit)
    return data_sets.prepare(short, source, folder, options.k, options.query_count)
