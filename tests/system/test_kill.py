"""kill -9 at random moments of a build: nothing committed is lost, nothing is done twice."""

import os
import random
import subprocess
import time

from running import environment

COUNT, KILLS, BUDGET_S = 1500, 20, 60


def test_a_killed_build_resumes(saccade, binary, photos, tmp_path):
    seed = int(os.environ.get("SACCADE_TEST_SEED", time.time_ns() % 10**6))
    print(f"SACCADE_TEST_SEED={seed}")
    rng = random.Random(seed)
    listing, data = tmp_path / "list", tmp_path / "d"
    listing.write_text("\n".join(map(str, photos(COUNT))))
    command = [str(binary), "build", "--files-from", str(listing), "--data", str(data), "--json"]
    began, committed, kills = time.monotonic(), 0, 0
    while kills < KILLS and time.monotonic() - began < BUDGET_S:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
        try:
            process.wait(rng.uniform(0.005, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kills += 1
        counted = saccade("info", "--data", data, "--json", code=None)
        if counted.code != 0:  # killed before there was a collection
            assert committed == 0, counted.err
            continue
        found = sum(int(line.split(":")[1].strip(" ,")) for line in counted.out.splitlines() if '"count"' in line)
        assert found >= committed, f"kill {kills}: {found} left of {committed}"
        committed = found
    summary = saccade(*command[1:]).lines()[0]
    assert summary["count"] == COUNT and summary["failed"] == 0
    assert summary["skipped"] == committed and summary["stored"] == COUNT - committed
    again = saccade(*command[1:]).lines()[0]
    assert again["stored"] == 0 and again["skipped"] == COUNT
    asked = photos(COUNT)[::150]
    hits = saccade("query", *asked, "-k", "1", "--data", data, "--json").lines()
    assert [hit["score"] > 0.999 for hit in hits] == [True] * len(asked)
