"""The program on a GPU, or on the host run of the GPU's own code: what it says of devices, and what it does when one fails."""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from needs import missing
from wire import RpcError, Wire, metrics, page

DIM = 16
MODEL = Path(__file__).resolve().parents[1] / "fixtures/encoder/timm"


@pytest.fixture(scope="module")
def gpu(binary) -> dict[str, str]:
    """The environment in which "cuda:0" is the kernels' host run."""
    module = os.environ.get("SACCADE_CUDA__MODULE") or binary.parent / "libsaccade_cuda_host.so"
    if not os.path.exists(module):
        missing(f"no {module}: the host run of the CUDA kernels was not built")
    return {"SACCADE_CUDA__MODULE": str(module)}


def vector(i: int) -> bytes:
    return struct.pack(f"<{DIM}f", *((i * 7919 + d * 104729) % 1009 / 1009 for d in range(DIM)))


def fill(server, count: int) -> None:
    with Wire(server) as wire:
        wire.call("create", collection="c", dim=DIM, metric="l2", index="Flat")
        wire.call("put", collection="c", items=[{"id": i, "vector": vector(i)} for i in range(count)])


def test_a_device_that_is_not_there_is_named_with_what_is(saccade, gpu):
    assert "there is no cuda:7: 1 GPU is here, cuda:0" in saccade("info", "--device", "cuda:7", env=gpu, code=1).err
    assert "cuda:0: host run" in saccade("info", "--device", "auto", env=gpu).out


def test_a_required_gpu_is_not_replaced_by_the_cpu(saccade, gpu, tmp_path):
    nothing = {"SACCADE_CUDA__MODULE": str(tmp_path / "none.so")}
    assert "a GPU is required" in saccade("info", "--require-gpu", env=nothing, code=1).err
    assert "cpu:" in saccade("info", env=nothing).out
    assert "cuda:0" in saccade("info", "--require-gpu", env=gpu).out


def test_a_server_answers_on_any_devices_as_on_the_cpu(serving, gpu, tmp_path):
    answers = {}
    two = gpu | {"SACCADE_HOST_CUDA__DEVICES": "2"}
    for device, env in (("cuda:0", gpu), ("cpu", {}), ("cpu,cpu", {}), ("cuda:0,cuda:1", two)):
        with serving(tmp_path / "d", "--device", device, env=env) as server, Wire(server) as wire:
            if device == "cuda:0":
                fill(server, 300)
            answers[device] = [
                [(hit["id"], pytest.approx(hit["distance"], rel=1e-5, abs=1e-6))
                 for hit in wire.call("search", collection="c", vector=vector(q), limit=5)["hits"]]
                for q in (3, 77, 1000)
            ]
    assert all(answer == answers["cpu"] for answer in answers.values())


def picture(i: int) -> bytes:
    """A small PNG that differs with i."""
    width, height = 30 + i, 40 - i
    rows = b"".join(bytes([0, *((x * (i + 3) + y * 7 * (c + 1) + i * i) % 256 for x in range(width) for c in range(3))])
                    for y in range(height))
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)


def nearest(answer) -> list:
    return [(hit["id"], pytest.approx(hit["distance"], rel=1e-3, abs=1e-5)) for hit in answer["hits"][:2]]


def test_pictures_are_searched_for_on_a_gpu_as_on_the_cpu(serving, gpu, tmp_path):
    options = ("--model", MODEL, "--precision", "f32")
    answers = {}
    for device, env in ("cpu", {}), ("cuda:0", gpu), ("cuda:0,cuda:1", gpu | {"SACCADE_HOST_CUDA__DEVICES": "2"}):
        with serving(tmp_path / "d", "--device", device, *options, env=env) as server, Wire(server) as wire:
            if device == "cpu":
                wire.call("create", collection="c", model=str(MODEL))
                wire.call("put", collection="c", items=[{"id": i, "image": picture(i)} for i in range(12)])
            single = [wire.call("search", collection="c", image=picture(q), limit=3, timeout_ms=20000) for q in range(3)]
            many = wire.call("search", collection="c", images=[picture(q) for q in range(3, 9)], limit=3, timeout_ms=20000)
            counts = metrics(server)
        answers[device] = [nearest(answer) for answer in single] + [nearest({"hits": hits}) for hits in many["hits"]]
        assert [hits[0][0] for hits in answers[device]] == list(range(9))
        assert counts['saccade_batch_size_sum{stage="search"}'] == 9
        # On a GPU the search is part of the embed stage's call.
        searches = counts.get('saccade_stage_duration_seconds_count{stage="search"}', 0)
        assert searches == (0 if device != "cpu" else 4)
    assert answers["cuda:0"] == answers["cpu"] and answers["cuda:0,cuda:1"] == answers["cpu"]


def test_the_command_asks_a_gpu_as_the_cpu(saccade, gpu, tmp_path):
    files = []
    for i in range(6):
        files.append(tmp_path / f"{i}.png")
        files[-1].write_bytes(picture(i))
    saccade("build", *files, "--data", tmp_path / "d", "--model", MODEL, "--precision", "f32", "--device", "cpu")
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture(1)[:60])
    for device, env in ("cpu", {}), ("cuda:0", gpu):
        asked = saccade("query", files[4], broken, files[2], "--data", tmp_path / "d", "-k", 1, "--precision", "f32",
                        "--device", device, "--json", env=env, code=1)
        assert "broken.png" in asked.err
        assert [(hit["query"], hit["id"]) for hit in asked.lines()] == [(str(files[i]), str(files[i])) for i in (4, 2)]


def test_a_lost_device_ends_the_server_and_loses_nothing(serving, gpu, tmp_path):
    with serving(tmp_path / "d", "--device", "cuda:0", env=gpu) as server:
        fill(server, 100)
    # Far enough for the collection to open, not for the searches that follow.
    failing = gpu | {"SACCADE_HOST_CUDA__FAIL": "lost:40"}
    with serving(tmp_path / "d", "--device", "cuda:0", env=failing) as server, Wire(server) as wire:
        assert page(server, "/readyz")[0] == 200
        with pytest.raises((RpcError, OSError)) as caught:
            for q in range(200):
                wire.call("search", collection="c", vector=vector(q), limit=5)
        if caught.type is RpcError:
            assert str(caught.value).startswith("UNAVAILABLE: ")
        start = time.monotonic()
        assert server.process.wait(timeout=10) == 1
        assert time.monotonic() - start < 5
    with serving(tmp_path / "d", "--device", "cuda:0", env=gpu) as server, Wire(server) as wire:
        assert wire.call("count", collection="c")["count"] == 100
        assert wire.call("search", collection="c", vector=vector(42), limit=1)["hits"][0]["id"] == 42


def test_an_index_that_does_not_fit_is_refused_with_what_is_missing(saccade, gpu, tmp_path):
    rows = np.random.default_rng(1).normal(size=(6000, 16)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    saccade("build", tmp_path / "rows.npy", "--data", tmp_path / "d", "--metric", "l2", "--index", "IVF16,PQ8",
            "--device", "cpu")
    arguments = ("info", "--data", tmp_path / "d", "--device", "cuda:0", "--device-memory")
    refused = saccade(*arguments, "100K", env=gpu, code=1).err
    assert "IVF16,PQ8 of 6000 vectors needs" in refused and "are missing" in refused
    assert "6,000 of 16 components" in saccade(*arguments, "64M", env=gpu).out
