"""A server of a few lines that answers as a test tells it: for the error paths of the clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import msgpack

CLOSE = object()  # in the place of a message: end the connection

Answer = Callable[[int, str, dict[str, Any]], Any]
"""(msgid, method, fields) -> the messages (or bytes) to send; None: stay silent."""


class FakeServer:
    """Listens on a free loopback port; every message it received is in `received`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.received: list[Any] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
        with connection:
            while data := connection.recv(65536):
                unpacker.feed(data)
                for message in unpacker:
                    self.received.append(message)
                    if message[0] != 0:
                        continue
                    _, msgid, method, params = message
                    for reply in self.answer(msgid, method, params[0] if params else {}) or ():
                        if reply is CLOSE:
                            return
                        connection.sendall(reply if isinstance(reply, bytes) else msgpack.packb(reply))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def always(result: Any) -> Answer:
    return lambda msgid, method, fields: [[1, msgid, None, result]]
