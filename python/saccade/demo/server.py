"""A `saccade serve` of our own: started on a free port, stopped when done."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import IO

from ..errors import Unavailable


class Server:
    """Runs `saccade serve` for a directory; ``address`` is where it listens.

    options: more words for its command line. log: where its stderr goes. Ends by SIGTERM, so that it drains.
    """

    def __init__(
        self, binary: Path, data: Path, *options: str, log: IO[bytes] | None = None, seconds: float = 30.0
    ) -> None:
        command = [os.fspath(binary), "serve", "--data", os.fspath(data), "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        # "ready rpc=127.0.0.1:40123 http=..." once connections are accepted
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        watchdog.cancel()
        places = dict(word.split("=", 1) for word in line.split()[1:]) if line.startswith("ready ") else {}
        if "rpc" not in places:
            self.process.kill()
            code = self.process.wait()
            raise Unavailable(
                f"`{' '.join(command)}` did not get ready (exit {code}): {line.strip() or 'it said nothing'}"
            )
        self.address = places["rpc"]
        self.http = places.get("http")

    def stop(self, seconds: float = 15.0) -> int:
        """Asks it to end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
