"""python -m saccade.bench.child JOB: builds one index in a process of its own, which may be stopped, may crash, and
whose memory is its own. JOB is a JSON file; the answer is one line of JSON on stdout, the last one."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import machine
from .engines import ENGINES, Params

PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class BuildFailed(Exception):
    """Why there is no index."""


def build(engine: str, base: Path, metric: str, params: Params, folder: Path, limit_s: float) -> dict[str, Any]:
    """Builds in a child process and saves into `folder`, which appears whole or not at all. Returns the seconds (wall
    and processor), the peak of its memory beside the vectors, the bytes on disk and the load of the machine."""
    partial = folder.with_name(folder.name + ".partial")
    _emptied(partial)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch) / "job.json"
        paths = {"base": os.fspath(base), "folder": os.fspath(partial)}
        job.write_text(json.dumps({"engine": engine, "metric": metric, "params": params, **paths}))
        command = [sys.executable, "-m", "saccade.bench.child", os.fspath(job)]
        path = os.pathsep.join([os.fspath(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment)
        except subprocess.TimeoutExpired as error:
            raise BuildFailed(f"not built in the {limit_s:.0f} s that were left") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise BuildFailed(f"building ended with {done.returncode}: {last[:300]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    answer["disk_bytes"] = sum(p.stat().st_size for p in partial.rglob("*") if p.is_file())
    answer["load"] = round(load, 2)
    partial.rename(folder)
    return answer


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _die_with_parent() -> None:
    """So that a comparison that was killed leaves no build behind that the next one meets."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, of Linux


def main() -> int:
    _die_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text())
    base = np.load(job["base"], mmap_mode="r")
    engine = ENGINES[job["engine"]]()
    for at in range(0, len(base), 65536):
        base[at : at + 65536].max()  # reads the file, or the first engine would be timed with the disk
    before = machine.held("VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    engine.build(base, job["metric"], job["params"], machine.cores())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    engine.save(Path(job["folder"]))
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "threads": machine.cores(), "peak_bytes": peak}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
