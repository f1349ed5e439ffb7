"""saccade for big-ann-benchmarks: copied to neurips23/ood/saccade/ and neurips23/streaming/saccade/."""

import pathlib

import numpy as np
from benchmark.algorithms.base import BaseANN
from benchmark.datasets import DATASETS

import saccade

METRICS = {"euclidean": "l2", "angular": "cosine", "ip": "ip"}
INDEXES = pathlib.Path("data/indices/saccade")
SAMPLE = 1_000_000  # vectors that codebooks and centroids are learned from
BLOCK = 500_000  # vectors added at once


class _Saccade(BaseANN):
    def __init__(self, metric, index_params):
        if metric not in METRICS:
            raise NotImplementedError(f"saccade has no metric {metric}; there are {', '.join(METRICS)}")
        self._metric, self._spec = METRICS[metric], index_params.get("spec", "auto")
        self._settings = {}
        self.name = f"saccade({self._spec})"

    def set_query_arguments(self, query_args):
        """{"recall": 0.9}, or {"nprobe": 32, "depth": 40}."""
        self._settings = {name: query_args[name] for name in ("recall", "nprobe", "depth") if name in query_args}
        self.name = f"saccade({self._spec}, {self._settings})"

    def query(self, X, k):
        self.res = self._index.search(X, k, **self._settings)[1]

    def range_query(self, X, radius):
        raise NotImplementedError("saccade answers with the k nearest, not with all within a radius")

    def get_additional(self):
        info = self._index.info
        return {"spec": info.spec, "bytes_codes": info.bytes_codes, "bytes_vectors": info.bytes_vectors}

    def done(self):
        self._index.close()


class Saccade(_Saccade):
    """The tracks that build once: reads the data set block by block, so that it need not fit into memory twice."""

    def track(self):
        return "T1"

    def fit(self, dataset):
        data = DATASETS[dataset]()
        self._index = saccade.Index(data.d, self._metric, self._spec)
        # The first rows are a fair sample: these data sets come shuffled.
        sample = next(iter(data.get_dataset_iterator(bs=min(SAMPLE, data.nb))))
        self._index.train(sample, expected=data.nb)
        at = 0
        for block in data.get_dataset_iterator(bs=BLOCK):
            self._index.add(block, np.arange(at, at + len(block)))
            at += len(block)
        self._index.measure()
        self._path(dataset).parent.mkdir(parents=True, exist_ok=True)
        self._index.save(self._path(dataset))

    def load_index(self, dataset):
        if not self._path(dataset).exists():
            return False
        self._index = saccade.Index.load(self._path(dataset))
        return True

    def index_files_to_store(self, dataset):
        path = self._path(dataset)
        return [str(path.parent), path.name, []]

    def _path(self, dataset):
        return INDEXES / f"{dataset}-{self._metric}-{self._spec.replace(',', '-')}"


class SaccadeStreaming(_Saccade):
    """The streaming track: the first vectors inserted teach it what vectors look like."""

    def track(self):
        return "stream"

    def setup(self, dtype, max_pts, ndims):
        self._index, self._expected = saccade.Index(ndims, self._metric, self._spec), max_pts

    def insert(self, X, ids):
        if not self._index.is_trained:
            self._index.train(X, expected=self._expected)
        self._index.add(X, ids)

    def delete(self, ids):
        self._index.remove_ids(ids)

    def fit(self, dataset):
        raise NotImplementedError("of the streaming track: setup, insert and delete")

    def load_index(self, dataset):
        raise NotImplementedError("of the streaming track: setup, insert and delete")
