"""The blocking client."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from . import calls
from .errors import DeadlineExceeded, Disconnected, Error, Malformed, ServerError
from .wire import GRACE_SECONDS, Address, Call, Inbox

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(build: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method that makes the call which build describes and waits for its answer."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(build(*args, **kwargs))

    return calls.describe(method, build)


class Client:
    """Talks to a running ``saccade serve``; any number of threads may share one client.

    address: "host:port" or "unix:/path".
    timeout: seconds that a call may take, retries included; None: 5 for reads, 30 for writes.
    retries: how often a read that was refused (Overloaded, Unavailable) or found no server is tried again,
        after the time that the server named. Writes are never tried again.

    It connects on the first call and again after a loss; each thread that waits holds a connection of its
    own, and idle ones are kept for the next call. Every method raises ServerError for what the server
    reports, DeadlineExceeded when time runs out, Disconnected when the server cannot be reached.

    >>> with Client("127.0.0.1:7700") as client:
    ...     for hit in client.search("photos", image="beach.jpg", k=5).hits:
    ...         print(hit.id, hit.score)
    """

    def __init__(self, address: str = "127.0.0.1:7700", *, timeout: float | None = None, retries: int = 3) -> None:
        self.address = Address.parse(address)
        self.timeout = timeout
        self.retries = retries
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    ping = _blocking(calls.ping)
    info = _blocking(calls.info)
    stats = _blocking(calls.stats)
    create = _blocking(calls.create)
    drop = _blocking(calls.drop)
    list = _blocking(calls.list_collections)
    put = _blocking(calls.put)
    delete = _blocking(calls.delete)
    get = _blocking(calls.get)
    count = _blocking(calls.count)
    search = _blocking(calls.search)
    search_many = _blocking(calls.search_many)
    embed = _blocking(calls.embed)

    def close(self) -> None:
        """Closes idle connections; calls in progress in other threads finish."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<saccade.Client {self.address}>"

    def _run(self, call: Call[T]) -> T:
        deadline = time.monotonic() + call.seconds(self.timeout)
        for attempt in range(self.retries + 1):
            try:
                return self._try(call, deadline)
            except Error as error:
                delay = call.retry_delay(error, attempt, deadline - time.monotonic())
                if delay is None or attempt == self.retries:
                    raise
                time.sleep(delay)
        raise AssertionError("not reached: the last attempt returns or raises")

    def _try(self, call: Call[T], deadline: float) -> T:
        connection = self._take(deadline)
        try:
            result = call.finish(*connection.exchange(call, deadline))
        except ServerError as error:
            self._give_back(connection, usable=error.code not in ("TOO_LARGE", "MALFORMED"))  # it closes after these
            raise
        except BaseException:  # an answer may still be under way: never to be read as the next one's
            connection.close()
            raise
        self._give_back(connection, usable=True)
        return result

    def _take(self, deadline: float) -> _Connection:
        while True:
            with self._lock:
                if self._closed:
                    raise ValueError("this Client is closed")
                if not self._idle:
                    break
                connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.close()
        return _Connection(self.address, deadline)

    def _give_back(self, connection: _Connection, usable: bool) -> None:
        with self._lock:
            if usable and not self._closed:
                self._idle.append(connection)
                return
        connection.close()


class _Connection:
    """One socket, one request at a time."""

    def __init__(self, address: Address, deadline: float) -> None:
        self.address = address
        self.inbox = Inbox()
        self.msgid = 0
        seconds = max(deadline - time.monotonic(), 0.001)
        try:
            if address.path is None:
                self.socket = socket.create_connection((address.host, address.port), seconds)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.socket.settimeout(seconds)
                self.socket.connect(address.path)
        except OSError as error:
            raise Disconnected(f"no server at {address}: {error}") from error

    def is_quiet(self) -> bool:
        """False where an idle connection was closed, or something arrived that nobody asked for."""
        readable, _, _ = select.select([self.socket], [], [], 0)
        return not readable

    def exchange(self, call: Call[T], deadline: float) -> tuple[object, object]:
        """Sends a request; returns (error, result) of its response."""
        self.msgid = (self.msgid + 1) % 2**32
        try:
            self._limit(deadline)
            message = call.message(self.msgid, deadline - time.monotonic())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # why may stand in an answer
                self.socket.sendall(message)
            while True:
                self._limit(deadline + GRACE_SECONDS)
                data = self.socket.recv(1 << 18)
                if not data:
                    raise Disconnected(f"{self.address} closed the connection before it answered {call.method}")
                for msgid, error, result in self.inbox.responses(data):
                    if msgid == self.msgid:
                        return error, result
                    raise Malformed(f"{self.address} answered request {msgid!r}, which was not asked")
        except Error:
            raise
        except TimeoutError as error:
            raise DeadlineExceeded(f"{call.method}: no answer from {self.address} in time") from error
        except OSError as error:
            raise Disconnected(f"{call.method}: connection to {self.address} lost: {error}") from error

    def _limit(self, deadline: float) -> None:
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))

    def close(self) -> None:
        self.socket.close()
