"""Clients that nobody here wrote: Neovim, from Lua and from Vimscript, and pynvim.

Neovim sends bytes as str, whole floats as integers, an empty table as an array, and keeps an error only
where it is a string; pynvim greets with a notification that no server of ours knows.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess

import numpy as np
import pytest

from needs import missing
from saccade.demo import scenes
from saccade.demo.variants import VARIANTS

NAMES = ["balloons-dawn", "sea-noon", "truchet-candy", "forest-blue"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four scenes as JPEG files, and one of them cropped in the file "query"."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in NAMES:
        scenes.paint(name).save(folder / name, "JPEG", quality=90)
    VARIANTS["crop"](scenes.paint("sea-noon"), np.random.default_rng(1)).save(folder / "query", "JPEG")
    return folder


@pytest.fixture(scope="module")
def server(serving, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data") / "neovim.sac") as server:
        yield server


def neovim(script, address, folder):
    """Runs a script in a real Neovim; what it wrote as JSON."""
    if shutil.which("nvim") is None:
        missing("no nvim: apt-get install neovim")
    out = script.with_suffix(".json")
    load = f"luafile {script}" if script.suffix == ".lua" else f"source {script}"
    settings = {"address": address, "folder": folder, "out": out}
    lets = [word for name, value in settings.items() for word in ("--cmd", f"let g:{name} = '{value}'")]
    done = subprocess.run(
        ["nvim", "--headless", "-u", "NONE", "-i", "NONE", *lets, "-c", load, "-c", "qa!"],
        capture_output=True, timeout=60, text=True,
    )  # fmt: skip
    assert out.exists(), done.stderr
    return json.loads(out.read_text())


LUA = """
local channel = vim.fn.sockconnect("tcp", vim.g.address, { rpc = true })
local function ask(method, fields) return vim.rpcrequest(channel, method, fields) end
local function read(name)
  local file = assert(io.open(vim.g.folder .. "/" .. name, "rb"))
  local bytes = file:read("*a")
  file:close()
  return bytes
end
local told = {}

told.ping = vim.rpcrequest(channel, "ping")
vim.rpcnotify(channel, "nvim_buf_attach", 0, { "whatever" })
told.created = ask("create", { collection = "lua", model = "builtin" })
local items = {}
for i, name in ipairs({ NAMES }) do
  items[i] = { id = name, image = read(name), attributes = { year = 2020 + i, place = "here" } }
end
told.put = ask("put", { collection = "lua", items = items }).stored
told.found = ask("search", { collection = "lua", image = read("query"), k = 2, with = { "attributes" } }).hits
told.cropped = ask("search", { collection = "lua", image = read("query"), crop = { 0, 0, 100, 100 }, k = 1 }).hits
told.count = ask("count", { collection = "lua" }).count

ask("create", { collection = "lua_points", dim = 3, metric = "l2" })
ask("put", { collection = "lua_points", items = { { id = 1, vector = { 1, 0, 0 }, attributes = {} },
                                                  { id = 2, vector = { 0, 1, 0.5 } } } })
told.point = ask("search", { collection = "lua_points", vector = { 0.0, 1.0, 0.0 }, k = 1 }).hits

local ok, reason = pcall(ask, "search", { collection = "nowhere", id = 1 })
told.refused, told.reason = not ok, reason
ok, reason = pcall(ask, "search", { collection = "lua", vektor = { 1 } })
told.misspelt = reason
ok, reason = pcall(ask, "search", { collection = "lua", image = "no picture" })
told.broken = reason
told.alive = vim.rpcrequest(channel, "ping")

local file = io.open(vim.g.out, "w")
file:write(vim.fn.json_encode(told))
file:close()
""".replace("NAMES", str(NAMES).strip("[]"))


def test_lua(server, pictures, tmp_path):
    script = tmp_path / "client.lua"
    script.write_text(LUA)
    told = neovim(script, server.address, pictures)
    assert told["ping"] == told["alive"] == "pong"
    assert told["created"]["model"] == "builtin" and told["put"] == told["count"] == 4
    first = told["found"][0]
    assert first["id"] == "sea-noon" and first["attributes"] == {"year": 2022, "place": "here"}
    assert first["score"] > told["found"][1]["score"] and len(told["cropped"]) == 1
    assert told["point"][0]["id"] == 2
    assert told["refused"] and "NOT_FOUND: " in told["reason"] and "nowhere" in told["reason"]
    assert "INVALID_ARGUMENT: " in told["misspelt"] and "vektor" in told["misspelt"]
    assert "IMAGE_REJECTED: " in told["broken"] or "IMAGE_CORRUPT: " in told["broken"]


VIMSCRIPT = """
let s:channel = sockconnect('tcp', g:address, {'rpc': v:true})
let s:told = {}
call rpcrequest(s:channel, 'create', {'collection': 'vim', 'model': 'builtin'})
let s:items = []
for s:name in NAMES
  call add(s:items, {'id': s:name, 'image': readfile(g:folder . '/' . s:name, 'B')})
endfor
let s:told.put = rpcrequest(s:channel, 'put', {'collection': 'vim', 'items': s:items}).stored
let s:query = {'collection': 'vim', 'image': readfile(g:folder . '/query', 'B'), 'k': 1, 'exact': v:true, 'with': []}
let s:told.found = rpcrequest(s:channel, 'search', s:query).hits[0].id
try
  call rpcrequest(s:channel, 'search', {'collection': 'vim', 'id': 'sea-noon', 'k': 0})
catch
  let s:told.reason = v:exception
endtry
call writefile([json_encode(s:told)], g:out)
""".replace("NAMES", str(NAMES))


def test_vimscript(server, pictures, tmp_path):
    script = tmp_path / "client.vim"
    script.write_text(VIMSCRIPT)
    told = neovim(script, server.address, pictures)
    assert told["put"] == 4 and told["found"] == "sea-noon"
    assert "INVALID_ARGUMENT: " in told["reason"] and "k" in told["reason"]


@pytest.fixture
def session(server):
    """A session of pynvim, which greets with the notification nvim_set_client_info."""
    try:
        from pynvim import msgpack_rpc
    except ImportError:
        missing("no pynvim: apt-get install python3-pynvim")
    host, _, port = server.address.rpartition(":")
    session = msgpack_rpc.tcp_session(host, int(port))
    session.error_wrapper = lambda error: RuntimeError(error)
    yield session
    session.close()


def test_pynvim(session, pictures):
    assert session.request("ping") == "pong"
    assert session.request("ping", {}) == "pong"
    session.request("create", {"collection": "py", "model": "builtin"})
    items = [{"id": i, "image": (pictures / name).read_bytes(), "source": name} for i, name in enumerate(NAMES)]
    assert session.request("put", {"collection": "py", "items": items})["stored"] == 4
    found = session.request(
        "search", {"collection": "py", "image": (pictures / "query").read_bytes(), "k": 2, "with": ["source", "vector"]}
    )
    first = found["hits"][0]
    assert (first["id"], first["source"]) == (1, "sea-noon") and len(found["query_id"]) == 32
    dim = session.request("info", {"collection": "py"})["dim"]
    squares = sum(x * x for x in struct.unpack(f"<{dim}f", first["vector"]))
    assert squares == pytest.approx(1, abs=1e-5)
    with pytest.raises(RuntimeError, match="NOT_FOUND: .*nowhere"):
        session.request("count", {"collection": "nowhere"})
    with pytest.raises(RuntimeError, match="UNKNOWN_METHOD: "):
        session.request("fly")
    with pytest.raises(RuntimeError, match="INVALID_ARGUMENT: "):
        session.request("count", "not a map")
    assert session.request("ping") == "pong"


def test_pynvim_many_under_way(session):
    greenlet = pytest.importorskip("greenlet")  # comes with pynvim
    session.request("create", {"collection": "many", "dim": 4, "metric": "l2"})
    items = [{"id": i, "vector": [i, 0, 0, 0]} for i in range(200)]
    session.request("put", {"collection": "many", "items": items})
    answers = {}

    def ask(i):
        query = {"collection": "many", "vector": [float(i), 0.25, 0.0, 0.0], "k": 1}
        answers[i] = session.request("search", query)["hits"][0]["id"]
        if len(answers) == 100:
            session.stop()

    def start():
        for i in range(100):
            greenlet.greenlet(ask).switch(i)

    session.run(lambda *_: None, lambda *_: None, start)
    assert answers == {i: i for i in range(100)}
