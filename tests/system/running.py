"""The command and the server as the system tests hold them."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass


def environment() -> dict[str, str]:
    """The caller's environment without settings of saccade, which would change what is tested. SACCADE_TEST_DEVICE names
    the device of every command instead of auto; the kernels' host run keeps its settings."""
    kept = ("SACCADE_CUDA__", "SACCADE_HOST_CUDA__")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SACCADE_") or name.startswith(kept)}
    device = os.environ.get("SACCADE_TEST_DEVICE")
    if device is not None:
        plain |= {"SACCADE_DEVICE__NAME": device, "SACCADE_DEVICE__REQUIRE_GPU": "1" if device.startswith("cuda") else "0"}
    return plain


@dataclass
class Result:
    """What a finished command left."""

    code: int
    out: str
    err: str

    def lines(self) -> list[dict]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen
    address: str  # of RPC, "127.0.0.1:PORT"
    http: str  # "127.0.0.1:PORT"

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])
