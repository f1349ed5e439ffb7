"""The virtual environment that the peers are installed into, so that nothing of theirs touches anything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .engines import PACKAGES
from .run import say

NEEDED = ("numpy", "msgpack")  # the package itself
HELPFUL = ("matplotlib", "h5py", "opencv-python-headless")  # plots, HDF5 files, SIFT
MARK = "SACCADE_BENCH_ENVIRONMENT"  # set for a process that runs inside one


def python(folder: Path) -> Path:
    return folder / "bin" / "python"


def ready(folder: Path, retry: bool = False) -> None:
    """Makes the environment and installs what it lacks, one package after another, so that one that cannot be
    installed keeps no other out. What failed once is only tried again with `retry`. Raises RuntimeError where there is
    no environment in the end."""
    if not python(folder).exists():
        say(f"making an environment for the peers in {folder}")
        made = _run([sys.executable, "-m", "venv", os.fspath(folder)])
        if made:
            raise RuntimeError(f"no virtual environment: {made} (Debian and Ubuntu: apt-get install python3-venv)")
    failed = {} if retry else why_missing(folder)
    lacking = _lacking(folder)
    for package in dict.fromkeys((*NEEDED, *PACKAGES, *HELPFUL)):
        if package not in lacking or package in failed:
            continue
        say(f"installing {package}")
        pip = [os.fspath(python(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        reason = _run([*pip, package])
        if reason:
            say(f"  not installed: {reason}")
            failed[package] = reason
    (folder / "missing.json").write_text(json.dumps({p: r for p, r in failed.items() if p in _lacking(folder)}))
    for package in NEEDED:
        if package in failed:
            raise RuntimeError(f"{package} cannot be installed: {failed[package]}")


def why_missing(folder: Path) -> dict[str, str]:
    """Of packages that could not be installed, what pip said."""
    path = folder / "missing.json"
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found


def enter(folder: Path, arguments: list[str]) -> None:
    """Goes on as `python -m saccade.bench` inside the environment; does not return."""
    here = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([os.fspath(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Threads that wait spinning would take the cores that other engines are measured on.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "PYTHONPATH": paths, MARK: os.fspath(folder)}
    os.execve(python(folder), [os.fspath(python(folder)), "-m", "saccade.bench", *arguments], environment)


def entered() -> Path | None:
    """The environment that this process runs in."""
    return Path(os.environ[MARK]) if MARK in os.environ else None


def _lacking(folder: Path) -> set[str]:
    names = json.dumps([*NEEDED, *PACKAGES, *HELPFUL])
    program = (
        "import importlib.metadata as m, json, sys\n"
        f"have = {{(d.metadata['Name'] or '').lower() for d in m.distributions()}}\n"
        f"print(json.dumps([n for n in {names} if n not in have]))"
    )
    done = subprocess.run([os.fspath(python(folder)), "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def _run(command: list[str]) -> str:
    """The last line that says why it failed; "" where it did not."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [f"ended with {done.returncode}"])[-1].strip()[:300]
