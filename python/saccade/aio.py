"""The asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import calls
from .errors import DeadlineExceeded, Disconnected, Error
from .wire import GRACE_SECONDS, Address, Call, Inbox, pack

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(build: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    """A coroutine method that makes the call which build describes."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(build(*args, **kwargs))

    return calls.describe(method, build)


class AsyncClient:
    """Talks to a running ``saccade serve`` from asyncio: all tasks share one connection, requests are sent
    without waiting for answers, and answers come in any order.

    address, timeout, retries: as for Client; the same methods, awaited.
    in_flight: requests that may be under way at once; more wait their turn. A server reads 64 of a connection.

    It connects on the first call and again after a loss. A call that is cancelled or runs out of time is
    cancelled on the server too. Use it in one event loop.

    >>> async with AsyncClient("127.0.0.1:7700") as client:
    ...     results = await asyncio.gather(*(client.search("photos", image=name) for name in names))
    """

    def __init__(
        self,
        address: str = "127.0.0.1:7700",
        *,
        timeout: float | None = None,
        retries: int = 3,
        in_flight: int = 64,
    ) -> None:
        self.address = Address.parse(address)
        self.timeout = timeout
        self.retries = retries
        self._turns = asyncio.Semaphore(in_flight)
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False

    ping = _awaited(calls.ping)
    info = _awaited(calls.info)
    stats = _awaited(calls.stats)
    create = _awaited(calls.create)
    drop = _awaited(calls.drop)
    list = _awaited(calls.list_collections)
    put = _awaited(calls.put)
    delete = _awaited(calls.delete)
    get = _awaited(calls.get)
    count = _awaited(calls.count)
    search = _awaited(calls.search)
    search_many = _awaited(calls.search_many)
    embed = _awaited(calls.embed)

    async def close(self) -> None:
        """Closes the connection; calls in progress raise Disconnected."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<saccade.AsyncClient {self.address}>"

    async def _run(self, call: Call[T]) -> T:
        deadline = time.monotonic() + call.seconds(self.timeout)
        for attempt in range(self.retries + 1):
            try:
                return await self._try(call, deadline)
            except Error as error:
                delay = call.retry_delay(error, attempt, deadline - time.monotonic())
                if delay is None or attempt == self.retries:
                    raise
                await asyncio.sleep(delay)
        raise AssertionError("not reached: the last attempt returns or raises")

    async def _try(self, call: Call[T], deadline: float) -> T:
        seconds = deadline + GRACE_SECONDS - time.monotonic()
        try:
            return call.finish(*await asyncio.wait_for(self._exchange(call, deadline), max(seconds, 0.001)))
        except Error:
            raise
        except asyncio.TimeoutError as problem:
            raise DeadlineExceeded(f"{call.method}: no answer from {self.address} in time") from problem

    async def _exchange(self, call: Call[T], deadline: float) -> tuple[Any, Any]:
        async with self._turns:
            connection = await self._connected()
            return await connection.exchange(call, deadline)

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._closed:
                raise ValueError("this AsyncClient is closed")
            if self._connection is None or self._connection.lost is not None:
                self._connection = await _Connection.open(self.address)
            return self._connection


class _Connection:
    """One socket with any number of requests under way."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self.lost: Error | None = None  # why, once nothing more will arrive
        self._writer = writer
        self._sending = asyncio.Lock()
        self._msgid = 0
        self._waiting: dict[int, asyncio.Future[tuple[Any, Any]]] = {}
        self._receiver = asyncio.create_task(self._receive(reader))

    @classmethod
    async def open(cls, address: Address) -> _Connection:
        try:
            if address.path is None:
                streams = await asyncio.open_connection(address.host, address.port)
            else:
                streams = await asyncio.open_unix_connection(address.path)
        except OSError as error:
            raise Disconnected(f"no server at {address}: {error}") from error
        return cls(address, *streams)

    async def exchange(self, call: Call[T], deadline: float) -> tuple[Any, Any]:
        """Sends a request; returns (error, result) of its response."""
        msgid = self._msgid = (self._msgid + 1) % 2**32
        answer: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[msgid] = answer
        try:
            if self.lost is not None:
                raise self.lost
            await self._send(call.message(msgid, deadline - time.monotonic()))
            return await answer
        except asyncio.CancelledError:
            if self.lost is None:
                self._writer.write(pack([2, "cancel", [msgid]]))
            raise
        finally:
            self._waiting.pop(msgid, None)

    async def _send(self, message: bytes) -> None:
        async with self._sending:
            self._writer.write(message)
            try:
                await self._writer.drain()
            except OSError:
                pass  # the receiver finds out, and perhaps an answer that tells why

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        inbox = Inbox()
        lost: Error = Disconnected(f"{self.address} closed the connection before it answered")
        try:
            while data := await reader.read(1 << 18):
                for msgid, error, result in inbox.responses(data):
                    answer = self._waiting.get(msgid)
                    if answer is not None and not answer.done():  # the others were cancelled meanwhile
                        answer.set_result((error, result))
        except Error as error:
            lost = error
        except OSError as error:
            lost = Disconnected(f"connection to {self.address} lost: {error}")
        finally:
            self.lost = lost
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(lost)

    async def close(self) -> None:
        self._receiver.cancel()
        await asyncio.gather(self._receiver, return_exceptions=True)
