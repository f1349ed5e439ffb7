"""python -m saccade.demo [DIR]: index the photos in DIR (none: pictures it paints), serve, search, show."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import Client, Error, ImageCorrupt, ImageRejected, NotFound
from . import page, pictures
from .server import Server

K = 7  # the other seven forms of a scene
SHOWN = 12
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Found:
    """What one query gave: (path, score) of the hits, nearest first; right: which show the same scene."""

    query: Path
    hits: list[tuple[Path, float]]
    milliseconds: float

    @property
    def right(self) -> list[bool]:
        return [pictures.scene_of(path) == pictures.scene_of(self.query) for path, _ in self.hits]


def main() -> int:
    options = _options()
    try:
        return _run(options)
    except (Error, OSError, subprocess.SubprocessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m saccade.demo", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="of photos to search; none: it paints some")
    parser.add_argument("--binary", type=Path, default=Path("build/release/saccade"), help="the saccade executable")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="where everything it makes goes")
    options = parser.parse_args()
    if not options.binary.exists():
        parser.error(f"no {options.binary}: ./dev build makes it")
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    return options


def _run(options: argparse.Namespace) -> int:
    painted = options.folder is None
    if painted:
        data = options.out / "pictures.sac"
        shutil.rmtree(data, ignore_errors=True)
        folder, queries = options.out / "pictures", options.out / "queries"
        asking = pictures.make(folder, queries, lambda done, n: _bar("painting scenes", done, n))
    else:
        folder = options.folder
        data = options.out / f"{folder.resolve().name}-{zlib.crc32(os.fsencode(folder.resolve())):08x}.sac"
        asking = _some(folder)
    options.out.mkdir(parents=True, exist_ok=True)

    built = _build(options.binary, folder, data)
    with Server(options.binary, data, "--http", "off", "--log", "warn") as server, Client(server.address) as client:
        _say(f"serving {built['count']:,} pictures on {server.address}, asking for {len(asking)}")
        found = _ask_all(client, built["collection"], asking, painted)

    shown = _varied(found) if painted else found[:SHOWN]
    _table(shown, painted)
    command = f"{_short(options.binary)} serve --data {_short(data)}"
    facts = _facts(built, found, painted)
    page.write(options.out, folder, shown, facts, _by_form(found) if painted else [], command)
    for name, value in facts:
        print(f"  {value:>14}  {name}")
    print(f"\nthe page:          {_short(options.out / 'index.html')}")
    print(f"serve it for real: {command}")
    return 0


# ---- the steps ---------------------------------------------------------------------------------------


def _some(folder: Path) -> list[Path]:
    """A dozen pictures of a folder, evenly spread."""
    every = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not every:
        raise FileNotFoundError(f"no pictures ({' '.join(sorted(SUFFIXES))}) in {folder}")
    return [every[i * len(every) // min(SHOWN, len(every))] for i in range(min(SHOWN, len(every)))]


def _build(binary: Path, folder: Path, data: Path) -> dict[str, Any]:
    """Runs `saccade build`, which shows its progress itself; returns its summary."""
    command = [os.fspath(binary), "build", os.fspath(folder), "--data", os.fspath(data), "--json"]
    _say(f"$ {_short(binary)} build {_short(folder)} --data {_short(data)}")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _ask_all(client: Client, collection: str, asking: list[Path], painted: bool) -> list[Found]:
    found = []
    for i, path in enumerate(asking):
        try:
            if i == 0:
                _ask(client, collection, path, left_out=None)  # warms up what the others are timed on
            found.append(_ask(client, collection, path, left_out=None if painted else path))
        except (ImageRejected, ImageCorrupt) as error:
            _say(f"{path} cannot ask: {error}")
    if not found:
        raise NotFound(f"none of {len(asking)} pictures could be read")
    return found


def _ask(client: Client, collection: str, path: Path, left_out: Path | None) -> Found:
    """left_out: the picture that asks, where it is in the collection too."""
    image = path.read_bytes()
    start = time.perf_counter()
    hits = client.search(collection, image=image, k=K + (left_out is not None), timeout=10).hits
    milliseconds = (time.perf_counter() - start) * 1000
    others = [(Path(str(hit.id)), hit.score) for hit in hits]
    if left_out is not None:
        others = [(hit, score) for hit, score in others if hit.resolve() != left_out.resolve()]
    return Found(path, others[:K], milliseconds)


def _varied(found: list[Found]) -> list[Found]:
    """A dozen with different scenes and forms: evenly spread over the list, which is in order of families."""
    return [found[i * len(found) // SHOWN] for i in range(SHOWN)]


# ---- what comes out ----------------------------------------------------------------------------------


def _facts(built: dict[str, Any], found: list[Found], painted: bool) -> list[tuple[str, str]]:
    """(what, figure) lines for the terminal and the page."""
    times = sorted(f.milliseconds for f in found)
    facts = [("pictures indexed", f"{built['count']:,}")]
    if built["stored"] > 0 and built["seconds"] > 0:
        facts.append(("pictures a second, decoded, embedded and stored", f"{built['stored'] / built['seconds']:,.0f}"))
    facts.append(("from JPEG bytes to hits, median", f"{times[len(times) // 2]:.1f} ms"))
    if painted:
        first = sum(f.right[0] for f in found)
        share = sum(sum(f.right) for f in found) / (K * len(found))
        facts.append(("queries whose nearest hit shows their scene", f"{first} of {len(found)}"))
        facts.append((f"of all {K} nearest hits show the scene asked for", f"{100 * share:.1f} %"))
    return facts


def _by_form(found: list[Found]) -> list[tuple[str, int, int, float]]:
    """(form of the query, right first hits, queries, share of right hits)"""
    rows = []
    for form in pictures.FORMS:
        of_form = [f for f in found if pictures.form_of(f.query) == form]
        share = sum(sum(f.right) for f in of_form) / (K * len(of_form))
        rows.append((form, sum(f.right[0] for f in of_form), len(of_form), share))
    return rows


def _table(found: list[Found], painted: bool) -> None:
    print(f"\n{'query':<30} {'ms':>6}  {'right ' if painted else ''}nearest hits and scores")
    for f in found:
        right = f"{sum(f.right)}/{K}   " if painted else ""
        hits = "  ".join(f"{_cut(path.stem, 26)} {score:.3f}" for path, score in f.hits[:3])
        print(f"{_cut(f.query.stem, 30):<30} {f.milliseconds:6.1f}  {right}{hits}")
    print()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _short(path: Path) -> str:
    """A path as one would type it here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else os.fspath(path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _bar(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total:
        _say(f"{what} {done}/{total}")


if __name__ == "__main__":
    sys.exit(main())
