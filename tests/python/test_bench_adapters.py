"""The adapters for other projects' benchmarks, against stand-ins of those projects' base classes: laid out, imported
and called the way the projects do."""

from __future__ import annotations

import importlib
import itertools
import json
import pickle
import shutil
import sys

import numpy as np
import pytest

from needs import ROOT
from saccade.bench import makers
from saccade.bench.engines.brute import nearest

pytestmark = pytest.mark.usefixtures("library")
ADAPTERS = ROOT / "bench/adapters"
BASE, QUERIES = makers.clusters(makers.Clusters(4_000, 40, 24, clusters=40, rank=8, kinds=4))
TRUTH = nearest(BASE, QUERIES, 10, "l2")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """project({"a/b.py": text}, adapter, "a/saccade"): a stand-in of a project with an adapter copied into it."""
    before = set(sys.modules)

    def make(sources, adapter, place):
        for name, text in sources.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        shutil.copytree(ADAPTERS / adapter, tmp_path / place)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.chdir(tmp_path)
        importlib.invalidate_caches()
        return tmp_path

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def found(answers, k=10):
    return np.mean([len(np.intersect1d(a, t)) / k for a, t in zip(answers, TRUTH, strict=True)])


# ---- ann-benchmarks ----------------------------------------------------------------------------------------

ANN_BASE = """
from multiprocessing.pool import ThreadPool

class BaseANN(object):
    def done(self): pass
    def get_memory_usage(self): return 1.0
    def fit(self, X): pass
    def query(self, q, n): return []
    def batch_query(self, X, n):
        self.res = ThreadPool().map(lambda q: self.query(q, n), X)
    def get_batch_results(self): return self.res
    def get_additional(self): return {}
    def __str__(self): return self.name
"""


def combinations(args):
    """As the project expands its configuration: every list holds the choices for one argument."""
    return [list(c) for c in itertools.product(*[a if isinstance(a, list) else [a] for a in args])]


def test_ann_benchmarks(project):
    yaml = pytest.importorskip("yaml")
    root = project({"ann_benchmarks/algorithms/base/module.py": ANN_BASE}, "ann_benchmarks",
                   "ann_benchmarks/algorithms/saccade")  # fmt: skip
    config = yaml.safe_load((root / "ann_benchmarks/algorithms/saccade/config.yml").read_text())["float"]["any"][0]
    module = importlib.import_module(f"{config['module']}.module")
    for group in config["run_groups"].values():
        for arguments in combinations(group["args"]):
            assert config["base_args"] == ["@metric"]
            algorithm = getattr(module, config["constructor"])("euclidean", *arguments)
            algorithm.fit(BASE)
            choices = combinations(group["query_args"])
            assert len(choices) > 5
            for choice in (choices[0], choices[-1]):
                algorithm.set_query_arguments(*choice)
                one = [algorithm.query(q, 10) for q in QUERIES]
                assert all(len(np.unique(ids)) == len(ids) <= 10 and min(ids) >= 0 for ids in one)
                algorithm.batch_query(QUERIES, 10)
                for a, b in zip(one, algorithm.get_batch_results(), strict=True):
                    np.testing.assert_array_equal(a, b)
                assert "saccade" in str(algorithm)
            assert found(one) > 0.99 and algorithm.query(QUERIES[0], 3).tolist() == one[0][:3].tolist()
            assert json.dumps(algorithm.get_additional()) and algorithm.get_memory_usage() > 0
            algorithm.done()


def test_ann_benchmarks_angular(project):
    project(
        {"ann_benchmarks/algorithms/base/module.py": ANN_BASE}, "ann_benchmarks", "ann_benchmarks/algorithms/saccade"
    )
    module = importlib.import_module("ann_benchmarks.algorithms.saccade.module")
    algorithm = module.Saccade("angular", "Flat")
    algorithm.fit(BASE * 3)
    assert found([algorithm.query(q * 5, 10) for q in QUERIES]) > 0.99
    with pytest.raises(NotImplementedError, match="hamming"):
        module.Saccade("hamming", "Flat")


# ---- big-ann-benchmarks ------------------------------------------------------------------------------------

BIG_BASE = """
class BaseANN(object):
    def done(self): pass
    def track(self): raise NotImplementedError()
    def fit(self, dataset): raise NotImplementedError()
    def load_index(self, dataset): raise NotImplementedError()
    def index_files_to_store(self, dataset): raise NotImplementedError()
    def query(self, X, k): raise NotImplementedError()
    def range_query(self, X, radius): raise NotImplementedError()
    def get_results(self): return self.res
    def get_range_results(self): return self.res
    def get_additional(self): return {}
    def __str__(self): return self.name
    def get_memory_usage(self): return 1.0
"""
BIG_DATA = """
import numpy as np

class Small:
    nb, d = 4000, 24
    rows = None
    def get_dataset_iterator(self, bs=512, split=(1, 0)):
        for at in range(0, self.nb, bs):
            yield self.rows[at : at + bs]

DATASETS = {"random-xs": Small}
"""


@pytest.fixture
def big_ann(project):
    sources = {"benchmark/algorithms/base.py": BIG_BASE, "benchmark/datasets.py": BIG_DATA}
    root = project(sources, "big_ann", "neurips23/ood/saccade")
    importlib.import_module("benchmark.datasets").Small.rows = BASE
    return root, importlib.import_module("neurips23.ood.saccade.saccade_ann")


def test_big_ann(big_ann, monkeypatch):
    yaml = pytest.importorskip("yaml")
    root, module = big_ann
    monkeypatch.setattr(module, "BLOCK", 1_500)
    configs = yaml.safe_load((root / "neurips23/ood/saccade/config.yaml").read_text())
    for config in configs.values():
        assert hasattr(module, config["saccade"]["constructor"])
        for group in config["saccade"]["run-groups"].values():
            assert json.loads(group["args"]) and json.loads(group["query-args"])
    group = configs["random-xs"]["saccade"]["run-groups"]["base"]
    algorithm = module.Saccade("euclidean", *json.loads(group["args"]))
    assert algorithm.load_index("random-xs") is False
    algorithm.fit("random-xs")
    again = module.Saccade("euclidean", *json.loads(group["args"]))
    assert again.load_index("random-xs") is True
    for arguments in json.loads(group["query-args"]):
        for a in (algorithm, again):
            a.set_query_arguments(arguments)
            a.query(QUERIES, 10)
            assert a.get_results().shape == (40, 10) and found(a.get_results()) > 0.8
    assert again.track() and json.dumps(again.get_additional()) and "saccade" in str(again)
    assert len(again.index_files_to_store("random-xs")) == 3
    with pytest.raises(NotImplementedError, match="radius"):
        again.range_query(QUERIES, 1.0)


def test_big_ann_streaming(big_ann):
    algorithm = big_ann[1].SaccadeStreaming("euclidean", {"spec": "IVF32,PQ12"})
    algorithm.setup("float32", 4_000, 24)
    algorithm.set_query_arguments({"nprobe": 32, "depth": 200})
    for at in range(0, 4_000, 1_000):
        algorithm.insert(BASE[at : at + 1_000], np.arange(at, at + 1_000, dtype=np.uint32))
    algorithm.query(QUERIES, 10)
    assert found(algorithm.get_results()) > 0.95
    gone = np.unique(TRUTH[:, 0])
    algorithm.delete(gone.astype(np.uint32))
    algorithm.query(QUERIES, 10)
    assert not np.isin(algorithm.get_results(), gone).any()
    algorithm.insert(BASE[gone], gone)
    algorithm.query(QUERIES, 10)
    assert found(algorithm.get_results()) > 0.95
    with pytest.raises(NotImplementedError):
        algorithm.fit("random-xs")


# ---- VectorDBBench -----------------------------------------------------------------------------------------

PYDANTIC = """
class BaseModel:
    def __init__(self, **values):
        for name, value in values.items():
            if not any(name in getattr(c, "__annotations__", {}) for c in type(self).__mro__):
                raise ValueError(f"no field {name}")
            setattr(self, name, value)
"""
VDB_API = """
from abc import ABC, abstractmethod
from contextlib import contextmanager
from enum import Enum
from pydantic import BaseModel

class MetricType(str, Enum):
    L2 = "L2"
    COSINE = "COSINE"
    HAMMING = "HAMMING"

class IndexType(str, Enum):
    IVFPQ = "IVF_PQ"

class DBConfig(ABC, BaseModel):
    db_label: str = ""
    version: str = ""
    note: str = ""
    @abstractmethod
    def to_dict(self): raise NotImplementedError

class DBCaseConfig(ABC):
    @abstractmethod
    def index_param(self): raise NotImplementedError
    @abstractmethod
    def search_param(self): raise NotImplementedError

class VectorDB(ABC):
    @abstractmethod
    def __init__(self, dim, db_config, db_case_config, collection_name, drop_old=False, **kwargs): ...
    @abstractmethod
    @contextmanager
    def init(self): raise NotImplementedError
    def need_normalize_cosine(self): return False
    @abstractmethod
    def insert_embeddings(self, embeddings, metadata, **kwargs): raise NotImplementedError
    @abstractmethod
    def search_embedding(self, query, k=100, filters=None): raise NotImplementedError
    @abstractmethod
    def optimize(self, data_size=None): raise NotImplementedError
"""


@pytest.fixture
def vectordbbench(project, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "pydantic"]:
        monkeypatch.delitem(sys.modules, name)
    place = "vectordb_bench/backend/clients"
    root = project({"pydantic.py": PYDANTIC, f"{place}/api.py": VDB_API}, "vectordbbench", f"{place}/saccade")
    modules = [importlib.import_module(f"vectordb_bench.backend.clients.{m}")
               for m in ("api", "saccade.config", "saccade.saccade_client")]  # fmt: skip
    return root, *modules


@pytest.mark.parametrize("metric", ["L2", "COSINE"])
def test_vectordbbench(vectordbbench, metric):
    root, api, config, client = vectordbbench
    where = config.SaccadeConfig(folder=str(root / "kept"), db_label="x").to_dict()
    case = config.SaccadeIndexConfig(
        metric_type=api.MetricType(metric), spec="IVF32,PQ12", recall=0.0, nprobe=32, depth=200
    )
    database = client.Saccade(dim=24, db_config=where, db_case_config=case, drop_old=True)
    with database.init():
        for at in range(0, 4_000, 1_000):
            ids = list(range(at, at + 1_000))
            assert database.insert_embeddings(BASE[ids].tolist(), ids) == (1_000, None)
        count, error = database.insert_embeddings([[1.0] * 23], [9])
        assert count == 0 and "[1][24]" in str(error)
        database.optimize(4_000)
        first = [database.search_embedding(q.tolist(), 10) for q in QUERIES]
    assert found(first) > 0.95 and all(isinstance(i, int) for i in first[0])
    with pytest.raises(NotImplementedError, match="filters"):
        database.search_embedding(QUERIES[0].tolist(), 10, {"id": 5})

    # Another process gets a copy of the object, and opens what is there.
    copied = pickle.loads(pickle.dumps(client.Saccade(dim=24, db_config=where, db_case_config=case)))
    assert isinstance(copied, api.VectorDB)
    with copied.init():
        assert [copied.search_embedding(q.tolist(), 10) for q in QUERIES] == first
        assert len(copied.search_embedding(QUERIES[0].tolist())) == 100
    assert copied.index is None
    fresh = client.Saccade(dim=24, db_config=where, db_case_config=case, drop_old=True)
    with fresh.init(), pytest.raises(ValueError, match="nothing was inserted"):
        fresh.optimize()


def test_vectordbbench_metrics(vectordbbench):
    _, api, config, _ = vectordbbench
    assert config.SaccadeIndexConfig().index_param() == {"spec": "auto", "metric": "cosine"}
    with pytest.raises(ValueError, match="HAMMING"):
        config.SaccadeIndexConfig(metric_type=api.MetricType.HAMMING).index_param()
