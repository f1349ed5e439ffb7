"""What the system tests share: the command run as a user runs it, and a server on free ports."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Result, Server, environment


@pytest.fixture(scope="session")
def saccade(binary) -> Callable[..., Result]:
    """saccade("query", path, "-k", 3): runs the command and waits. code=None accepts any exit code."""

    def run(*arguments: object, code: int | None = 0, timeout: float = 120, env: dict | None = None,
            input: str | None = None, cwd: Path | None = None) -> Result:
        done = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, timeout=timeout,
                              env=environment() | (env or {}), cwd=cwd,
                              input=None if input is None else input.encode())
        result = Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        assert code is None or result.code == code, f"{arguments}: exit {result.code}\n{result.out}{result.err}"
        return result

    return run


@pytest.fixture(scope="session")
def serving(binary) -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """with serving(folder, "--model", path) as server: a server on free ports, drained at the end."""

    @contextlib.contextmanager
    def start(data: Path, *arguments: object, stop: int = signal.SIGTERM, env: dict | None = None) -> Iterator[Server]:
        command = [str(binary), "serve", "--data", str(data), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                   "--log", "warn", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment() | (env or {}), text=True)
        try:
            ready = process.stdout.readline()  # "ready rpc=... http=...", or nothing where the start failed
            assert ready.startswith("ready "), f"no server: exit {process.wait(10)}"
            where = dict(part.split("=", 1) for part in ready.split()[1:])
            yield Server(process, where["rpc"], where["http"])
            if process.poll() is None:
                process.send_signal(stop)
            process.wait(timeout=20)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()

    return start


@pytest.fixture(scope="session")
def photos(data) -> Callable[[int], list[Path]]:
    """photos(300): that many real photos, spread evenly over the labelled sets."""
    folder = data("photos")

    def take(count: int) -> list[Path]:
        files = [line.split(",", 1)[0] for line in (folder / "labels.csv").read_text().splitlines()[1:]]
        return [(folder / files[i * len(files) // count]).resolve() for i in range(count)]

    return take


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """(master, slave): both ends of a pseudo-terminal. Whoever passes the slave on closes it."""
    try:
        master, slave = pty.openpty()
    except OSError as error:
        pytest.skip(f"this machine has no pseudo-terminals: {error}")
    yield master, slave
    os.close(master)
