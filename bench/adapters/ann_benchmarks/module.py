"""saccade for ann-benchmarks: copied to ann_benchmarks/algorithms/saccade/module.py."""

import numpy as np

import saccade

from ..base.module import BaseANN

METRICS = {"euclidean": "l2", "angular": "cosine", "ip": "ip"}


class Saccade(BaseANN):
    """spec: as in FAISS's index factory, or "auto". Queries are asked by recall, or where that is 0 by lists probed and
    candidates re-ranked."""

    def __init__(self, metric, spec):
        if metric not in METRICS:
            raise NotImplementedError(f"saccade has no metric {metric}; there are {', '.join(METRICS)}")
        self._metric, self._spec = METRICS[metric], spec
        self._settings = {}
        self.name = f"saccade({spec})"

    def fit(self, X):
        X = np.ascontiguousarray(X, np.float32)
        self._index = saccade.Index(X.shape[1], self._metric, self._spec)
        self._index.train(X)
        self._index.add(X)
        self._index.measure()

    def set_query_arguments(self, recall, nprobe=0, depth=0):
        self._settings = {"recall": recall, "nprobe": nprobe, "depth": depth}
        how = f"recall={recall}" if recall else f"nprobe={nprobe}, depth={depth}"
        self.name = f"saccade({self._spec}, {how})"

    def query(self, q, n):
        ids = self._index.search(q, n, **self._settings)[1][0]
        return ids[ids >= 0]

    def batch_query(self, X, n):
        self.res = self._index.search(X, n, **self._settings)[1]

    def get_batch_results(self):
        return [ids[ids >= 0] for ids in self.res]

    def get_additional(self):
        info = self._index.info
        return {"spec": info.spec, "bytes_codes": info.bytes_codes, "bytes_vectors": info.bytes_vectors}

    def done(self):
        self._index.close()
