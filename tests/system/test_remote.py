"""The client side of --connect against servers that are none: a clear error, soon, and no memory on a stranger's word."""

import contextlib
import socket
import threading
import time

import msgpack
import pytest


@contextlib.contextmanager
def pretender(answer):
    """A listener that calls answer(connection) for each client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield "127.0.0.1:%d" % listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def reply(*values):
    def answer(connection):
        connection.recv(65536)
        for value in values:
            connection.sendall(value if isinstance(value, bytes) else msgpack.packb(value))
        connection.recv(65536)

    return answer


@pytest.mark.parametrize("answer, said", [
    (reply(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "is it saccade?"),
    (reply(b"\xdd\xff\xff\xff\xff"), "is it saccade?"),
    (reply(b"\x91" * 5000), "is it saccade?"),
    (reply(b"\xc1"), "is it saccade?"),
    (reply([1, 77, None, {}]), "is it saccade?"),
    (reply([1, 0, {"no": "text"}, None]), "no string"),
    (reply([1, 0, None, {}]), "no hits"),
    (reply([1, 0, None, {"hits": [{"id": 1}]}]), "PROTOCOL.md"),
    (reply([1, 0, None, {"hits": [{"id": [], "score": 1.0, "distance": 0.0}]}]), "PROTOCOL.md"),
    (reply([1, 0, "OVERLOADED: later [retry_after_ms=5]", None]), "later [retry_after_ms=5]"),
    (reply([1, 0, "SOMETHING_NEW: of a later version", None]), "SOMETHING_NEW: of a later version"),
    (lambda connection: connection.close(), "the connection"),
    (lambda connection: connection.recv(65536), "closed the connection"),
])
def test_answers_that_are_none(saccade, answer, said):
    with pretender(answer) as address:
        assert said in saccade("query", "--id", "7", "--connect", address, code=1, timeout=5).err


def test_silence_ends_at_the_deadline(saccade):
    began = time.monotonic()
    with pretender(lambda connection: time.sleep(5)) as address:
        result = saccade("query", "--id", "7", "--connect", address, "--timeout-ms", "200", code=1)
    assert "no answer" in result.err
    assert time.monotonic() - began < 4


def test_an_answer_may_come_byte_by_byte(saccade):
    def drip(connection):
        connection.recv(65536)
        for byte in msgpack.packb([1, 0, None, {"hits": [{"id": "a", "score": 0.5, "distance": 0.5}]}]):
            connection.sendall(bytes([byte]))
            time.sleep(0.001)

    with pretender(drip) as address:
        (hit,) = saccade("query", "--id", "7", "--connect", address, "--json").lines()
    assert hit == {"query": "7", "rank": 1, "id": "a", "score": 0.5, "distance": 0.5}
