"""saccade for VectorDBBench: copied to vectordb_bench/backend/clients/saccade/config.py."""

from pydantic import BaseModel

from ..api import DBCaseConfig, DBConfig, IndexType, MetricType

METRICS = {"L2": "l2", "COSINE": "cosine", "IP": "ip", "DP": "ip"}


class SaccadeConfig(DBConfig):
    """folder: where the vectors that were inserted and the index made of them are kept."""

    folder: str = "/tmp/vectordb_bench/saccade"

    def to_dict(self) -> dict:
        return {"folder": self.folder}


class SaccadeIndexConfig(BaseModel, DBCaseConfig):
    """spec: as in FAISS's index factory. recall: what is asked for; 0: nprobe lists and depth candidates instead."""

    index: IndexType = IndexType.IVFPQ
    metric_type: MetricType | None = None
    spec: str = "auto"
    recall: float = 0.95
    nprobe: int = 0
    depth: int = 0

    def index_param(self) -> dict:
        metric = "COSINE" if self.metric_type is None else self.metric_type.value
        if metric not in METRICS:
            raise ValueError(f"saccade has no metric {metric}; there are {', '.join(METRICS)}")
        return {"spec": self.spec, "metric": METRICS[metric]}

    def search_param(self) -> dict:
        return {"recall": self.recall, "nprobe": self.nprobe, "depth": self.depth}
