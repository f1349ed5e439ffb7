"""saccade for VectorDBBench: copied to vectordb_bench/backend/clients/saccade/saccade_client.py."""

import pathlib
import shutil
from contextlib import contextmanager

import numpy as np

import saccade

from ..api import VectorDB


class Saccade(VectorDB):
    """An index in the process that asks. The object is copied into many processes, so it holds paths only: what was
    inserted are files, optimize() makes the index of them, init() loads it."""

    def __init__(self, dim, db_config, db_case_config, collection_name="saccade", drop_old=False, **kwargs):
        self.dim, self.case = dim, db_case_config
        self.folder = pathlib.Path(db_config["folder"]) / collection_name
        if drop_old:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.index = None

    @contextmanager
    def init(self):
        if self._file.exists():
            self.index = saccade.Index.load(self._file)
        yield
        self.index = None

    def insert_embeddings(self, embeddings, metadata, **kwargs):
        try:
            vectors, ids = np.asarray(embeddings, np.float32), np.asarray(metadata, np.int64)
            if vectors.ndim != 2 or vectors.shape != (len(ids), self.dim):
                raise ValueError(f"vectors [{len(ids)}][{self.dim}] wanted, got {vectors.shape}")
            # Named by the first id: processes that insert at once do not meet.
            np.savez(self.folder / f"part-{ids[0] if len(ids) else 0:012d}.npz", vectors=vectors, ids=ids)
        except (ValueError, OSError) as error:
            return 0, error
        return len(ids), None

    def optimize(self, data_size=None):
        parts = [np.load(path) for path in sorted(self.folder.glob("part-*.npz"))]
        if not parts:
            raise ValueError(f"nothing was inserted into {self.folder}")
        vectors, ids = (np.concatenate([part[name] for part in parts]) for name in ("vectors", "ids"))
        params = self.case.index_param()
        index = saccade.Index(self.dim, params["metric"], params["spec"])
        index.train(vectors)
        index.add(vectors, ids)
        index.measure()
        index.save(self._file)
        self.index = index

    def search_embedding(self, query, k=100, filters=None, **kwargs):
        if filters:
            raise NotImplementedError("saccade's index in the process has no filters by metadata")
        ids = self.index.search(np.asarray(query, np.float32), k, **self.case.search_param())[1][0]
        return ids[ids >= 0].tolist()

    @property
    def _file(self):
        return self.folder / "index"
