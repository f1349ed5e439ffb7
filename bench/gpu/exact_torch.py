"""Exact search by PyTorch, the peer that every CUDA machine has: a bf16 matrix product and a top-k.

    exact_torch.py DIR [--json FILE] [--batch 1,10,100,1000,10000] [--seconds 1]

DIR holds base.fbin, query.fbin and truth.ibin as bench_gpu_search --dump leaves them. Base and queries stay on the
device; a batch is cut so that the matrix of distances fits a quarter of the free memory. Prints queries a second and recall@10
against the truth, and, so that the truth is not only our own word, the recall of the truth against f32 products here.
Where FAISS's GPU build or cuVS can be imported, it says so, and runs FAISS's IVF-PQ too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

K = 10


def read(path: Path, dtype: type) -> np.ndarray:
    """The rows of a file of u32 rows, u32 dim and the values."""
    rows, dim = np.fromfile(path, np.uint32, 2)
    return np.memmap(path, dtype, "r", offset=8, shape=(int(rows), int(dim)))


class Exact:
    """Squared L2 by |x|^2 - 2 q.x; what is nearest does not need |q|^2."""

    def __init__(self, base: np.ndarray, dtype: torch.dtype, device: str) -> None:
        rows = torch.from_numpy(np.array(base)).to(device)
        self.norms = (rows * rows).sum(1)
        self.rows = rows.to(dtype)
        self.device = device

    def tile(self) -> int:
        """Queries whose distances fit."""
        free = torch.cuda.mem_get_info()[0] if self.device != "cpu" else 1 << 30
        return max(1, free // 4 // (len(self.rows) * 8))

    def search(self, queries: torch.Tensor) -> torch.Tensor:
        found = []
        for part in queries.split(self.tile()):
            products = part.to(self.rows.dtype) @ self.rows.T
            distances = self.norms - 2 * products.float()
            found.append(distances.topk(K, largest=False).indices)
        return torch.cat(found)


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len(set(f) & set(t)) / K for f, t in zip(found, truth)]))


def measure(exact: Exact, queries: torch.Tensor, batch: int, seconds: float) -> dict[str, float]:
    """Queries a second over whole batches, and the median and 99th percentile of a batch's time."""
    exact.search(queries[:batch])
    wait(exact.device)
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        at = len(times) * batch % max(1, len(queries) - batch + 1)
        before = time.perf_counter()
        exact.search(queries[at : at + batch])
        wait(exact.device)
        times.append(time.perf_counter() - before)
    times.sort()
    return {
        "batch": batch,
        "qps": batch / statistics.mean(times),
        "p50_us": 1e6 * times[len(times) // 2],
        "p99_us": 1e6 * times[len(times) * 99 // 100],
    }


def faiss_points(base: np.ndarray, queries: np.ndarray, truth: np.ndarray, batches: list[int]) -> list[dict]:
    """FAISS's IVF-PQ on the GPU, where its GPU build is installed."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        return []
    nlist = int(4 * len(base) ** 0.5)
    index = faiss.index_cpu_to_gpu(
        faiss.StandardGpuResources(), 0, faiss.index_factory(base.shape[1], f"IVF{nlist},PQ{base.shape[1] // 2}")
    )
    index.train(np.ascontiguousarray(base[: 200 * nlist]))
    index.add(np.ascontiguousarray(base))
    points = []
    for nprobe in (8, 32, 128):
        index.nprobe = nprobe
        for batch in batches:
            part = np.ascontiguousarray(queries[:batch])
            index.search(part, K)
            start = time.perf_counter()
            turns = 0
            while time.perf_counter() - start < 0.5:
                index.search(part, K)
                turns += 1
            qps = turns * batch / (time.perf_counter() - start)
            found = index.search(np.ascontiguousarray(queries[: len(truth)]), K)[1]
            points.append({"nprobe": nprobe, "batch": batch, "qps": qps, "recall": recall(found, truth)})
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch", default="1,10,100,1000,10000")
    parser.add_argument("--seconds", type=float, default=1)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = read(args.folder / "base.fbin", np.float32)
    queries = read(args.folder / "query.fbin", np.float32)
    truth = read(args.folder / "truth.ibin", np.int32)
    batches = [int(b) for b in args.batch.split(",") if int(b) <= len(queries)]
    on_device = torch.from_numpy(np.array(queries)).to(device)

    torch.backends.cuda.matmul.allow_tf32 = False
    checked = min(100, len(truth))
    full = Exact(base, torch.float32, device)
    agreement = recall(full.search(on_device[:checked]).cpu().numpy(), truth[:checked])
    del full
    exact = Exact(base, torch.bfloat16, device)
    found = exact.search(on_device[: len(truth)]).cpu().numpy()
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    result = {
        "peer": f"PyTorch {torch.__version__} exact, bf16, on {name}",
        "rows": len(base),
        "dim": base.shape[1],
        "recall": recall(found, truth),
        "truth_against_f32": agreement,
        "points": [measure(exact, on_device, b, args.seconds) for b in batches],
    }
    for module in ("faiss", "cuvs"):
        result[module] = "not installed" if importlib.util.find_spec(module) is None else "installed"
    if result["faiss"] == "installed":
        result["faiss_points"] = faiss_points(base, queries, truth, batches)

    print(f"{result['peer']}: {len(base)} x {base.shape[1]}, recall@10 {result['recall']:.4f}")
    print(f"the truth agrees with f32 products to {agreement:.4f}; FAISS {result['faiss']}, cuVS {result['cuvs']}")
    print(f"{'batch':>8} {'queries/s':>12} {'p50 us':>10} {'p99 us':>10}")
    for p in result["points"]:
        print(f"{p['batch']:8} {p['qps']:12.0f} {p['p50_us']:10.1f} {p['p99_us']:10.1f}")
    for p in result.get("faiss_points", []):
        print(f"FAISS nprobe {p['nprobe']}, batch {p['batch']}: {p['qps']:.0f} queries/s at {p['recall']:.4f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
