"""What goes over the wire (PROTOCOL.md): addresses, messages, retries; used by both clients, opens no socket."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgpack  # type: ignore[import-untyped]
import numpy as np

from .errors import Error, Malformed, Overloaded, Unavailable, server_error

T = TypeVar("T")

REPLY_BYTES_MAX = 64 << 20
READ_SECONDS = 5.0
WRITE_SECONDS = 30.0
GRACE_SECONDS = 0.5  # after a deadline: for the server's DEADLINE_EXCEEDED, which knows more, to arrive
_SERVER_TIMEOUT_MS_MAX = 30_000


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request before it is sent: fields are the params map, parse turns the result into what the caller gets."""

    method: str
    fields: dict[str, Any]
    parse: Callable[[Any], T]
    write: bool = False
    timeout: float | None = None

    def seconds(self, default: float | None) -> float:
        """How long the whole call may take, retries included."""
        for seconds in (self.timeout, default):
            if seconds is not None:
                if not seconds > 0:
                    raise ValueError(f"timeout: more than 0 seconds wanted, got {seconds}")
                return seconds
        return WRITE_SECONDS if self.write else READ_SECONDS

    def message(self, msgid: int, seconds: float) -> bytes:
        """The request's bytes; the server gives up after seconds."""
        fields = dict(self.fields)
        if self.method != "ping":
            fields["timeout_ms"] = max(1, min(round(seconds * 1000), _SERVER_TIMEOUT_MS_MAX))
        return pack([0, msgid, self.method, [fields] if fields else []])

    def finish(self, error: Any, result: Any) -> T:
        """What the caller gets for a response."""
        if error is not None:
            raise server_error(error)
        try:
            return self.parse(result)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise Malformed(f"{self.method}: the reply is not as PROTOCOL.md says: {problem!r}") from problem

    def retry_delay(self, error: Error, attempt: int, seconds_left: float) -> float | None:
        """Seconds to wait before the attempt after this one (0, 1, ...), None where there shall be none: reads
        are tried again when the server refused them before any work, or was not there."""
        if self.write or not isinstance(error, (Overloaded, Unavailable)):
            return None
        told = getattr(error, "retry_after_ms", None)
        delay = (told / 1000 if told is not None else 0.05 * 2**attempt) * random.uniform(1.0, 1.5)
        return delay if delay < seconds_left else None


def pack(message: Any) -> bytes:
    packed = msgpack.packb(message, use_bin_type=True, default=_plain, unicode_errors="surrogateescape")
    assert isinstance(packed, bytes)
    return packed


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot be sent: {value!r} of {type(value).__name__}")


@dataclass
class Inbox:
    """Bytes as they arrive -> responses. Feed it, then take what is complete."""

    _unpacker: Any = field(
        default_factory=lambda: msgpack.Unpacker(
            raw=False,
            strict_map_key=False,
            unicode_errors="surrogateescape",
            max_buffer_size=REPLY_BYTES_MAX,
        )
    )

    def responses(self, data: bytes) -> list[tuple[int, Any, Any]]:
        """(msgid, error, result) of each response that data completes."""
        found = []
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                kind, msgid, error, result = message
                if kind != 1:
                    raise ValueError(f"message type {kind!r}")
                found.append((msgid, error, result))
        except (ValueError, TypeError, msgpack.UnpackException) as problem:
            raise Malformed(f"what arrived is no MessagePack-RPC response: {problem}") from problem
        return found


@dataclass(frozen=True)
class Address:
    """Where a server listens: a path, or a host and a port."""

    path: str | None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """ "unix:/run/saccade/socket", "127.0.0.1:7700", "[::1]:7700"."""
        if text.startswith("unix:"):
            return cls(text[len("unix:") :])
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"address: host:port or unix:/path wanted, got {text!r}")
        return cls(None, host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else f"{self.host}:{self.port}"
