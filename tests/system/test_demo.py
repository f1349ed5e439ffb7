"""The demo as `./dev demo` runs it, with its own pictures and with somebody's folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from needs import ROOT


def demo(binary, out, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "saccade.demo", "--binary", binary, "--out", out, *arguments],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env=os.environ | {"PYTHONPATH": "python"},
    )  # fmt: skip


def linked(page):
    return re.findall(r'src="([^"]+)"', page)


def test_with_its_own_pictures(binary, tmp_path):
    done = demo(binary, tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "index.html").read_text()
    assert linked(page) and all((tmp_path / src).is_file() for src in linked(page))
    assert "http" not in page.replace("http-equiv", "")
    right, queries = map(int, re.search(r"(\d+) of (\d+)  queries whose nearest", done.stdout).groups())
    assert queries >= 40 and right >= 0.8 * queries
    assert f"serve --data {os.path.relpath(tmp_path / 'pictures.sac', ROOT)}" in done.stdout.splitlines()[-1] or (
        f"serve --data {tmp_path / 'pictures.sac'}" in done.stdout.splitlines()[-1]
    )


def test_with_a_folder(binary, tmp_path, photos):
    folder = tmp_path / "my photos"
    folder.mkdir()
    for i, path in enumerate(photos(30)):
        (folder / f"{i} & more.jpg").symlink_to(path)
    (folder / "! broken.jpg").write_bytes(b"\xff\xd8 no more")
    done = demo(binary, tmp_path / "out", folder)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/index.html").read_text()
    assert len(linked(page)) >= 12 and "&amp; more" in page
    assert "! broken.jpg cannot ask: IMAGE_" in done.stderr


def test_without_pictures(binary, tmp_path):
    done = demo(binary, tmp_path / "out", tmp_path)
    assert done.returncode == 1 and "no pictures" in done.stderr


def test_without_a_binary(tmp_path):
    done = demo(tmp_path / "none", tmp_path)
    assert done.returncode == 2 and "./dev build" in done.stderr
