"""Images a second of vision transformers, saccade and PyTorch by turns: same weights, same pictures, same machine.

    encoder.py --bench build/gpu/tree/bench_gpu_encoder --work build/gpu/models [--device cuda:0] [--data DIR]
               [--models ViT-B/16,ViT-L/14,ViT-B/32,ViT-Tiny/16] [--batch 1,8,64,512] [--rounds 3] [--seconds 0.3]
               [--compile default] [--peak TFLOPS] [--limit SECONDS] [--json FILE] [--markdown FILE] [--smoke]

Weights are random but for ViT-Tiny's, which are the real ones where --data has models/vit_tiny_patch16_224. Before anything
is timed, the vectors of both must agree with an f32 pass of PyTorch: cosine of at least 0.999 for every picture. Each
figure is the median of the rounds; within a round the order of engines and batches is drawn anew. "device": pictures
lie on the GPU and vectors stay there (PyTorch only: the best that it can do); "host": a call takes pictures from host
memory and gives vectors back there; "host x2": two callers at once, so that copies hide behind work. The share is of --peak,
the rate of a large bf16 product that bench_gpu_limits measures (or of PyTorch's own product, where that is not given).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "encoder"))
from shapes import SHAPES, Shape, make_folder, pictures  # noqa: E402

LEAST_COSINE = 0.999
CHECKED = 16


class Worker:
    """A process that answers each line with a line of JSON."""

    def __init__(self, *command: object) -> None:
        self.process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.answer()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, *request: object) -> dict:
        self.process.stdin.write(" ".join(map(str, request)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def weights(shape: Shape, options: argparse.Namespace) -> tuple[Path, str]:
    """The model's folder. Pictures of the input's size are to be taken as they are, so ViT-Tiny's crop is widened."""
    real = options.data / "models" / "vit_tiny_patch16_224" if options.data else None
    if shape.name != "ViT-Tiny/16" or real is None or not (real / "model.safetensors").exists():
        return make_folder(shape, options.work / shape.name.replace("/", "-")), "random weights"
    folder = options.work / "vit-tiny-real"
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((real / "config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = 1.0
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copyfile(real / "model.safetensors", folder / "model.safetensors")
    return folder, "its own weights"


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Over the rows; NaN counts as no likeness at all."""
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def agreement(shape: Shape, ours: Worker, peer: Worker, work: Path) -> dict[str, float]:
    """Least cosines against f32, and of different pictures (what the check could not tell apart would be near 1)."""
    source, target = work / "pixels.u8", work / "vectors.f32"
    pictures(CHECKED, shape.image).tofile(source)
    vectors = {}
    for name, worker, extra in (("f32", peer, ["f32"]), ("PyTorch", peer, ["bf16"]), ("saccade", ours, [])):
        said = worker.ask("embed", source, target, *extra)
        if "error" in said:
            raise RuntimeError(f"{name}: {said['error']}")
        vectors[name] = np.fromfile(target, np.float32).reshape(CHECKED, -1).astype(np.float64)
    truth = vectors["f32"]
    between = (truth / np.linalg.norm(truth, axis=1, keepdims=True)) @ (truth / np.linalg.norm(truth, axis=1, keepdims=True)).T
    return {"saccade": least_cosine(truth, vectors["saccade"]), "PyTorch": least_cosine(truth, vectors["PyTorch"]),
            "different_pictures": float((between.sum() - CHECKED) / (CHECKED * (CHECKED - 1)))}


def turns(ours: Worker, peer: Worker | None, batches: list[int], options: argparse.Namespace) -> list[dict]:
    """All (engine, batch, where) in a new order each round; the medians."""
    jobs = [("saccade", b, where, ours, callers) for b in batches for where, callers in (("host", 1), ("host x2", 2))]
    if peer is not None:
        jobs += [("PyTorch", b, where, peer, where) for b in batches for where in ("device", "host")]
    answers: dict[tuple, list[dict]] = {}
    rng = random.Random(options.rounds)
    for _ in range(options.rounds):
        for engine, batch, where, worker, last in rng.sample(jobs, len(jobs)):
            answers.setdefault((engine, batch, where), []).append(worker.ask("time", batch, options.seconds, last))
    points = []
    for (engine, batch, where), said in sorted(answers.items(), key=lambda item: (item[0][1], item[0][0], item[0][2])):
        point = {"engine": engine, "batch": batch, "where": where}
        failed = [a["error"] for a in said if "error" in a]
        if failed:
            points.append(point | {"error": failed[0]})
            continue
        rates = [a["images_s"] for a in said]
        points.append(point | {"images_s": statistics.median(rates), "spread": (max(rates) - min(rates)) / max(rates),
                               "p50_ms": statistics.median(a["p50_ms"] for a in said),
                               "p99_ms": statistics.median(a["p99_ms"] for a in said)})
    return points


def open_peer(folder: Path, options: argparse.Namespace) -> tuple[Worker | None, str]:
    if importlib.util.find_spec("torch") is None:
        return None, f"not run: {sys.executable} has no PyTorch"
    device = [] if options.device.startswith("cuda") and not options.smoke else ["--device", "cpu"]
    try:
        return Worker(sys.executable, ROOT / "bench/gpu/vit_torch.py", folder, "--compile", options.compile, *device), ""
    except RuntimeError as error:
        return None, f"not run: {error}"


def measure(shape: Shape, options: argparse.Namespace) -> dict:
    folder, whose = weights(shape, options)
    result: dict = {"model": shape.name, "weights": whose, "gflop": shape.flops / 1e9}
    ours = Worker(options.bench, folder, "--device", options.device, "--precision", "bf16", "--side", shape.image,
                  "--batch-max", max(options.batch))
    peer, result["peer"] = open_peer(folder, options)
    result["saccade"] = ours.about
    try:
        if peer is not None:
            result["peer"] = peer.about["name"]
            result["cosine"] = agreement(shape, ours, peer, options.work)
            if min(result["cosine"]["saccade"], result["cosine"]["PyTorch"]) < LEAST_COSINE:
                result["error"] = f"not timed: vectors differ, least cosines {result['cosine']}"
                return result
            prepared = {b: peer.ask("prepare", b) for b in options.batch}
            result["compile"] = {b: said.get("error") or f"{said['how']}, {said['seconds']:.0f} s"
                                 for b, said in prepared.items()}
            result["peer_peak_tflops"] = peer.ask("peak", options.seconds)["tflops"]
        else:
            result["cosine"] = "not checked without PyTorch"
        result["points"] = turns(ours, peer, options.batch, options)
    finally:
        ours.close()
        if peer is not None:
            peer.close()
    return result


# ---- what comes out ------------------------------------------------------------------------------------------------


def peak_of(results: list[dict], options: argparse.Namespace) -> tuple[float | None, str]:
    if options.peak:
        return options.peak, "bench_gpu_limits"
    own = [r["peer_peak_tflops"] for r in results if "peer_peak_tflops" in r]
    return (max(own), "PyTorch's own large product") if own else (None, "not measured")


def lines_of(report: dict) -> list[str]:
    """The report as a table in Markdown."""
    peak = report["peak_tflops"]
    lines = [f"Share: of {peak:.0f} TFLOP/s, {report['peak_from']}." if peak else "Share: no peak was measured.", ""]
    lines += ["| model | batch | engine | images/s | share | spread | p50 ms | p99 ms |",
              "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in report["models"]:
        for p in r.get("points", []):
            if "error" in p:
                lines.append(f"| {r['model']} | {p['batch']} | {p['engine']}, {p['where']} | {p['error']} | | | | |")
                continue
            share = f"{p['images_s'] * r['gflop'] / 1e3 / peak:.1%}" if peak else ""
            times = [f"{p['p50_ms']:.3f}", f"{p['p99_ms']:.3f}"] if p["where"] == "host" else ["", ""]
            lines.append(f"| {r['model']} | {p['batch']} | {p['engine']}, {p['where']} | {p['images_s']:.0f} | {share} | "
                         f"{p['spread']:.0%} | {times[0]} | {times[1]} |")
    lines.append("")
    for r in report["models"]:
        cosine = r.get("cosine")
        agreed = (f"least cosine to f32 {cosine['saccade']:.5f} (saccade), {cosine['PyTorch']:.5f} (PyTorch); different "
                  f"pictures {cosine['different_pictures']:.3f}" if isinstance(cosine, dict) else cosine)
        if "points" in r:
            lines.append(f"- {r['model']}: {r['weights']}, {r['gflop']:.2f} GFLOP a picture; {agreed}; peer {r['peer']}: "
                         f"{r.get('compile', {})}")
        else:
            lines.append(f"- {r['model']}: {r['error']}")
    return lines + [""]


def run_all(options: argparse.Namespace) -> list[dict]:
    results, start = [], time.monotonic()
    longest = 0.0
    for name in options.models:
        left = options.limit - (time.monotonic() - start)
        if left < longest:
            results.append({"model": name, "error": f"not run: {left:.0f} s were left, the one before took {longest:.0f}"})
            continue
        before = time.monotonic()
        try:
            results.append(measure(SHAPES[name], options))
        except (RuntimeError, OSError) as error:
            results.append({"model": name, "error": f"failed: {error}"})
        longest = max(longest, time.monotonic() - before)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where folders of random weights are made and kept")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=lambda text: text.split(","), default=["ViT-B/16", "ViT-L/14", "ViT-B/32", "ViT-Tiny/16"])
    parser.add_argument("--batch", type=lambda text: [int(b) for b in text.split(",")], default=[1, 8, 64, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--compile", default="default", help="a mode of torch.compile, or none")
    parser.add_argument("--peak", type=float, help="TFLOP/s of a large bf16 product on this chip")
    parser.add_argument("--limit", type=float, default=1e9, help="begin no model that would end after so many seconds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--smoke", action="store_true", help="tiny networks, PyTorch on the CPU: to try this script")
    options = parser.parse_args()
    if options.smoke:
        options.models, options.batch, options.rounds, options.seconds = ["smoke-timm", "smoke-clip"], [1, 3], 2, 0.05
    options.work.mkdir(parents=True, exist_ok=True)
    results = run_all(options)
    peak, source = peak_of(results, options)
    report = {"models": results, "peak_tflops": peak, "peak_from": source}
    text = "\n".join(lines_of(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(text)
    print(text)
    return 1 if any(str(r.get("error", "")).startswith(("failed", "not timed")) for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
