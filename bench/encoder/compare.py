#!/usr/bin/env python3
"""Images per second of saccade's encoder beside PyTorch and ONNX Runtime: same machine, same run, by turns.

    ENV/bin/python bench/encoder/compare.py --vit-tiny FOLDER [--bench build/release/bench_encoder]
                             [--threads 2] [--seconds 1] [--rounds 3] [--peers torch,onnxruntime]

ENV holds numpy, torch, transformers, safetensors, onnx and onnxruntime. ViT-Tiny is timm's folder; ViT-B/32 is CLIP's shape
with random weights (shapes.py). Writes bench/results/encoder-CPU-DATE.json and .md: the median over the rounds, and each
figure's share of the best big product that any engine reached in the same precision. Figures are per second
of processor time and thread (a busy machine does not change them, an OpenMP barrier that spins does) and per second of the clock.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

from shapes import SHAPES, make_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
BATCHES = (1, 8, 32)

MODELS = ("ViT-Tiny/16", "ViT-B/32")


class Worker:
    def __init__(self, command, env):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
                                        stderr=subprocess.DEVNULL)
        self.name = self.process.stdout.readline().strip()

    def ask(self, what, seconds):
        self.process.stdin.write(f"{what} {seconds}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        return [float(x) for x in answer]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cpu_name():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    return re.search(r"model name\s*:\s*(.*)", text).group(1)


def measure(args, model, folder, precision, env):
    """{engine: {"name", "batch": {b: [wall, cpu]}, "peak": [wall, cpu]}}, medians over rounds that take turns."""
    commands = {"saccade": [args.bench, folder, precision, str(args.threads)]}
    for peer in args.peers.split(","):
        if peer and not (peer == "onnxruntime" and precision == "bf16"):
            commands[peer] = [sys.executable, str(HERE / "peer.py"), peer, folder, precision, str(args.threads)]
    workers = {name: Worker(command, env) for name, command in commands.items()}
    answers = {name: {} for name in workers}
    for _ in range(args.rounds):
        for what in ("peak",) + BATCHES:
            for name, worker in workers.items():
                answers[name].setdefault(what, []).append(worker.ask(what, args.seconds))
    result = {}
    for name, worker in workers.items():
        worker.close()
        medians = {str(what): [statistics.median(column) for column in zip(*rounds)]
                   for what, rounds in answers[name].items()}
        result[name] = {"name": worker.name, "medians": medians}
        print(model, precision, name, medians, file=sys.stderr, flush=True)
    return result


def markdown(report):
    lines = [f"# Encoders on {report['cpu']}", "",
             f"{report['date']}, commit {report['commit']}, {report['threads']} thread(s), "
             f"{report['rounds']} rounds of {report['seconds']} s by turns, load average {report['load']} at the start.",
             "", f"`{report['command']}`", "",
             "Images a second of processor time and thread; in brackets a second of the clock; then the share of the peak "
             "(the best big product of any engine in that precision, also by processor time).", "",
             "| model | precision | engine | " + " | ".join(f"batch {b}" for b in BATCHES) + " |",
             "| --- | --- | --- |" + " --- |" * len(BATCHES)]
    for run in report["runs"]:
        peak = max(e["medians"]["peak"][1] for e in run["engines"].values())
        for name, engine in run["engines"].items():
            cells = []
            for b in BATCHES:
                wall, cpu = engine["medians"][str(b)]
                share = cpu * SHAPES[run["model"]].flops / 1e9 / peak
                cells.append(f"{cpu:.1f} ({wall:.1f}) {share:.0%}")
            lines.append(f"| {run['model']} | {run['precision']} | {name} | " + " | ".join(cells) + " |")
        lines.append(f"| {run['model']} | {run['precision']} | peak | {peak:.0f} GFLOP/s | | |")
    lines += ["", "Engines: " + "; ".join(sorted({e["name"] for r in report["runs"] for e in r["engines"].values()})), ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vit-tiny", required=True)
    parser.add_argument("--bench", default=str(ROOT / "build/release/bench_encoder"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="torch,onnxruntime")
    parser.add_argument("--out", default=str(ROOT / "bench/results"))
    args = parser.parse_args()
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    report = {"cpu": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
              "date": datetime.date.today().isoformat(), "commit": commit, "threads": args.threads,
              "rounds": args.rounds, "seconds": args.seconds, "load": round(os.getloadavg()[0], 1),
              "command": "bench/encoder/compare.py " + f"--threads {args.threads} --seconds {args.seconds} "
                         f"--rounds {args.rounds} --peers {args.peers}", "runs": []}
    with tempfile.TemporaryDirectory() as b32:
        make_folder(SHAPES["ViT-B/32"], pathlib.Path(b32))
        for model, folder in zip(MODELS, (args.vit_tiny, b32)):
            for precision in ("f32", "bf16"):
                report["runs"].append({"model": model, "precision": precision,
                                       "engines": measure(args, model, folder, precision, env)})
    slug = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower().replace("(r)", "")).strip("-")
    base = pathlib.Path(args.out) / f"encoder-{slug}-{report['date']}-{args.threads}t"
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    base.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


main()
