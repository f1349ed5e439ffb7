"""Embeddings of random crops of photos: an hour's work for a million, so every embedding is kept as it comes, and
whoever was stopped goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .makers import Materials
from .progress import Progress

SAVE_SECONDS = 10.0  # of work that are lost at most


def embeddings_of_crops(
    materials: Materials, count: int, queries: int, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(base, queries): random resized crops (8 to 100 % of the area, 3:4 to 4:3) of photos through our own encoder,
    every photo as often as every other. The same materials give the same vectors, however often the work was stopped.
    folder: keeps what there is of them, until a caller who has stored both removes it."""
    from ..encoder import Encoder

    if materials.model is None:
        raise ValueError("--model DIR must name a folder with config.json and model.safetensors")
    encoder = Encoder(materials.model)
    base, asking = materials.split()
    folder.mkdir(parents=True, exist_ok=True)
    found = _side(encoder, materials, base, count, folder / "base")
    return found, _side(encoder, materials, asking, queries, folder / "queries")


def _side(encoder: Any, materials: Materials, photos: list[Path], count: int, stem: Path) -> NDArray[np.float32]:
    names = [os.fspath(p.relative_to(materials.photos or Path())) for p in photos]
    kept = Kept(stem, (count, encoder.dim), _digest(*map(str, astuple(materials)), *names))
    try:
        _embed(encoder, photos, names, materials.seed, kept)
    finally:
        kept.save()
    return kept.rows[_rng(materials.seed, stem.name).permutation(count)]


class Kept:
    """Rows [count][dim] in `stem`.npy, of which `stem`.json says how many there are, and of which work."""

    def __init__(self, stem: Path, shape: tuple[int, int], work: str) -> None:
        """work: a digest of what the rows are made from; those of another are thrown away."""
        self._rows_path, self._state_path = stem.with_suffix(".npy"), stem.with_suffix(".json")
        self._work, self.what = work, stem.name
        self.done = 0  # rows
        self.turns = 0  # photos that were asked for some, over all rounds
        self.round_began = 0  # rows that there were when the round through the photos began
        if self._rows_path.exists() and self._state_path.exists():
            state = json.loads(self._state_path.read_text())
            rows = np.lib.format.open_memmap(self._rows_path, "r+")
            if state["work"] == work and rows.shape == shape:
                self.done, self.turns, self.round_began = state["done"], state["turns"], state["round_began"]
                self.rows = rows
                return
        self._state_path.unlink(missing_ok=True)
        self._reserve(shape[0] * shape[1] * 4)
        self.rows = np.lib.format.open_memmap(self._rows_path, "w+", np.float32, shape)

    def _reserve(self, size: int) -> None:
        """A full disk is told now, and not by a signal in the middle of the work."""
        if shutil.disk_usage(self._rows_path.parent).free < size:
            raise OSError(f"{self._rows_path}: {size / 1e9:.1f} GB are wanted, the disk has less")

    def save(self) -> None:
        """The rows before the word that they are there, so that a machine that stops loses some and spoils none."""
        self.rows.flush()
        state = {"work": self._work, "done": self.done, "turns": self.turns, "round_began": self.round_began}
        partial = self._state_path.with_suffix(".partial")
        partial.write_text(json.dumps(state))
        partial.replace(self._state_path)


def _embed(encoder: Any, photos: Sequence[Path], names: Sequence[str], seed: int, kept: Kept) -> None:
    """Photo after photo in a shuffled order, each giving its share of the crops that are still wanted; another round
    only where the last photos could not be read."""
    count, order = len(kept.rows), _rng(seed, "order").permutation(len(photos))
    progress, saved = Progress(f"embedding crops, {kept.what}", count, kept.done), time.monotonic()
    while kept.done < count:
        cycle, at = divmod(kept.turns, len(photos))
        if at == 0 and cycle > 0 and kept.done == kept.round_began:
            kept.turns -= len(photos)  # who goes on tries them again
            raise ValueError(f"none of {len(photos)} photos could be decoded")
        if at == 0:
            kept.round_began = kept.done
        share = -(-(count - kept.done) // (len(photos) - at))
        found = _crops(photos[order[at]], share, _rng(seed, cycle, names[order[at]]))
        if found:
            kept.rows[kept.done : kept.done + share] = encoder.embed(found)
        kept.done += len(found)
        kept.turns += 1
        progress.show(kept.done)
        if time.monotonic() - saved > SAVE_SECONDS:
            kept.save()
            saved = time.monotonic()


def _crops(photo: Path, share: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """So many random crops of a photo; none where it cannot be decoded."""
    from ..encoder import decode_image
    from ..errors import Error

    try:
        pixels = decode_image(photo)
    except Error:
        return []
    boxes = [crop_box(pixels.shape[0], pixels.shape[1], rng) for _ in range(share)]
    return [np.ascontiguousarray(pixels[y : y + h, x : x + w]) for x, y, w, h in boxes]


def crop_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(x, y, w, h) of a random resized crop; the whole picture where ten tries do not fit into it."""
    for _ in range(10):
        area = rng.uniform(0.08, 1.0) * height * width
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    return 0, 0, width, height


def _digest(*words: object) -> str:
    return hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()


def _rng(*words: object) -> np.random.Generator:
    """Random numbers of their own for whatever the words name: for each photo the same, whatever was done before."""
    return np.random.default_rng(int(_digest(*words), 16))
