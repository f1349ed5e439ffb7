"""Building within a limit of memory: it is kept, and what cannot keep it is refused before anything is taken in."""

import re
import subprocess
import time

import numpy as np
import pytest
from running import environment

MIB = 1 << 20


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file of 60,000 vectors of 128 components around 200 centres: 29 MiB."""
    random = np.random.default_rng(1)
    centres = random.standard_normal((200, 128)).astype(np.float32)
    noise = random.standard_normal((60_000, 128)).astype(np.float32)
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, centres[random.integers(0, 200, 60_000)] + 0.3 * noise)
    return path


def test_a_build_keeps_to_its_limit(saccade, binary, rows, tmp_path):
    folder, limit = tmp_path / "m.sac", 104 * MIB
    process = subprocess.Popen([str(binary), "build", str(rows), "--data", str(folder), "--device", "cpu", "--memory", "104M",
                                "--index", "IVF512,PQ16", "--quiet"], stdout=subprocess.PIPE, env=environment(), text=True)
    peak = 0
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status") as status:  # pages of the store's file are a cache, and not counted
            held = re.search(r"RssAnon:\s+(\d+)", status.read())
        peak = max(peak, int(held[1]) * 1024 if held else 0)
        time.sleep(0.002)
    out, _ = process.communicate()
    assert process.returncode == 0 and "IVF512,PQ16" in out, out
    assert 29 * MIB < peak <= limit, peak
    found = saccade("query", "--vector", f"{rows}:17", "-k", "1", "--data", folder, "--device", "cpu", "--json").lines()
    assert found[0]["id"] == 17


def test_what_has_no_room_is_refused_before_it_is_taken_in(saccade, rows, tmp_path):
    folder = tmp_path / "m.sac"
    limited = {"SACCADE_DEVICE__HOST_MEMORY": "76M"}
    refused = saccade("build", rows, "--data", folder, "--device", "cpu", "--index", "IVF512,PQ16", code=1, env=limited)
    assert "IVF512,PQ16 of 60000 vectors needs" in refused.err and "MiB are missing" in refused.err
    assert "use IVF512,PQ16,Refine(SQ8), which fits" in refused.err
    summary = saccade("build", rows, "--data", folder, "--device", "cpu", "--index", "IVF512,PQ16,Refine(SQ8)", "--json",
                      env=limited).lines()[0]
    assert summary["stored"] == 60_000 and summary["index"] == "IVF512,PQ16,Refine(SQ8)"
