"""What a figure was taken on, and what a process uses of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]  # of a checkout


def describe() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(), "cores": len(_cpus()), "memory_bytes": _memory(), "system": platform.platform(),
        "python": platform.python_version(), "commit": commit(), "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip


def commit() -> str:
    """Of the checkout that this file lies in, "+" where something in it is changed; "" outside of one."""
    try:
        return _git("rev-parse", "--short=12", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", os.fspath(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    told = ("avx2", "avx512f", "avx512_vnni", "avx512vbmi", "amx_tile")
    isa = " ".join(name for name in told if name in fields.get("flags", "").split())
    return f"{fields.get('model name', platform.machine())}{f' ({isa})' if isa else ''}"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpus() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cores() -> int:
    """That this process may use."""
    return len(_cpus())


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Keeps the calling thread on the last core that the process may use; other threads go where they like."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def held(field: str = "RssAnon") -> int:
    """Bytes of memory that this process has of its own, mapped files left out (VmRSS: with them); 0 where that cannot
    be asked."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back first
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
