"""Every error that saccade raises, one class for each outcome of the C API and of the wire.

``Error`` is the base of them all. A failure reported by a server is also a ``ServerError``, so that
``except NotFound`` catches both worlds and ``except ServerError`` only what came over the wire.
"""

from __future__ import annotations

import re

__all__ = [
    "AlreadyExists",
    "Busy",
    "Cancelled",
    "Corrupt",
    "DeadlineExceeded",
    "DeviceLost",
    "DeviceMemory",
    "Disconnected",
    "Error",
    "IOFailed",
    "ImageCorrupt",
    "ImageRejected",
    "Internal",
    "InvalidArgument",
    "Malformed",
    "NoMemory",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "ReadOnly",
    "ServerError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnknownMethod",
    "Unsupported",
    "VersionMismatch",
]


class Error(Exception):
    """A failure with the name of its kind in ``code`` and a sentence for people in ``text``."""

    code = "INTERNAL"

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class InvalidArgument(Error, ValueError):
    code = "INVALID_ARGUMENT"


class Unauthenticated(Error):
    code = "UNAUTHENTICATED"


class PermissionDenied(Error):
    code = "PERMISSION_DENIED"


class NotFound(Error, LookupError):
    code = "NOT_FOUND"


class TooLarge(Error, ValueError):
    code = "TOO_LARGE"


class Malformed(Error, ValueError):
    code = "MALFORMED"


class UnknownMethod(Error):
    code = "UNKNOWN_METHOD"


class Overloaded(Error):
    code = "OVERLOADED"


class DeadlineExceeded(Error, TimeoutError):
    code = "DEADLINE_EXCEEDED"


class Unavailable(Error):
    code = "UNAVAILABLE"


class Disconnected(Unavailable, ConnectionError):
    """The server cannot be reached, or the connection broke. After a write the outcome is unknown: it may
    have been applied or not; writing the same again is safe, since a put replaces."""


class ReadOnly(Error):
    code = "READ_ONLY"


class ImageRejected(Error, ValueError):
    code = "IMAGE_REJECTED"


class ImageCorrupt(Error, ValueError):
    code = "IMAGE_CORRUPT"


class VersionMismatch(Error):
    code = "VERSION_MISMATCH"


class Internal(Error):
    code = "INTERNAL"


class AlreadyExists(Error):
    code = "ALREADY_EXISTS"


class NoMemory(Error, MemoryError):
    code = "NO_MEMORY"


class DeviceMemory(Error, MemoryError):
    code = "DEVICE_MEMORY"


class DeviceLost(Error):
    code = "DEVICE_LOST"


class Corrupt(Error):
    code = "CORRUPT"


class IOFailed(Error):
    code = "IO"


class Busy(Error):
    code = "BUSY"


class Cancelled(Error):
    code = "CANCELLED"


class Unsupported(Error):
    code = "UNSUPPORTED"


class ServerError(Error):
    """A failure that a server reported.

    retry_after_ms: when a retry may succeed, in milliseconds, where the server said so.
    outcome: of a write, "not_applied", "applied" or "unknown", where the server said so.
    """

    retry_after_ms: int | None = None
    outcome: str | None = None


_LOCAL: dict[str, type[Error]] = {
    cls.code: cls
    for cls in (
        InvalidArgument, Unauthenticated, PermissionDenied, NotFound, TooLarge, Malformed, UnknownMethod,
        Overloaded, DeadlineExceeded, Unavailable, ReadOnly, ImageRejected, ImageCorrupt, VersionMismatch,
        Internal, AlreadyExists, NoMemory, DeviceMemory, DeviceLost, Corrupt, IOFailed, Busy, Cancelled,
        Unsupported,
    )
}  # fmt: skip
_REMOTE: dict[str, type[ServerError]] = {
    code: type("Server" + cls.__name__, (ServerError, cls), {"__module__": __name__, "code": code})
    for code, cls in _LOCAL.items()
}

# "CODE_NAME: what was wrong, where, what to do [key=value ...]"
_WIRE = re.compile(r"(?P<code>[A-Z][A-Z_]*): (?P<text>.*?)(?: \[(?P<facts>\w+=[^\]]*)\])?", re.DOTALL)


def local_error(code: str, text: str) -> Error:
    """The exception for a status of the C API."""
    return _LOCAL.get(code, Internal)(text)


def server_error(message: object) -> ServerError:
    """The exception for the error field of a reply: a string as PROTOCOL.md has it, or anything at all."""
    match = _WIRE.fullmatch(message) if isinstance(message, str) else None
    if match is None:
        return _REMOTE["INTERNAL"](str(message))
    error = _REMOTE.get(match["code"], _REMOTE["INTERNAL"])(match["text"])
    facts = dict(fact.split("=", 1) for fact in (match["facts"] or "").split() if "=" in fact)
    error.outcome = facts.get("outcome")
    if facts.get("retry_after_ms", "").isdigit():
        error.retry_after_ms = int(facts["retry_after_ms"])
    return error
