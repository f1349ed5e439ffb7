"""Makes the demo's own pictures: each scene in eight forms, of which one asks and seven are there to be found."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from . import scenes
from .variants import VARIANTS

FORMS = list(VARIANTS)


def scene_of(path: str | os.PathLike[str]) -> str:
    """The scene that a picture's file name tells: "hills-dawn--crop.jpg" shows "hills-dawn"."""
    return Path(path).stem.rpartition("--")[0]


def form_of(path: str | os.PathLike[str]) -> str:
    return Path(path).stem.rpartition("--")[2]


def make(pictures: Path, queries: Path, progress: Callable[[int, int], None]) -> list[Path]:
    """Fills both folders with JPEG files named SCENE--FORM.jpg; returns the queries. The same on every machine
    with the same NumPy and Pillow."""
    for folder in (pictures, queries):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    names = scenes.names()
    asking = []
    with ProcessPoolExecutor() as pool:
        jobs = [pool.submit(_make_scene, name, i, pictures, queries) for i, name in enumerate(names)]
        for done, job in enumerate(jobs, 1):
            asking.append(job.result())
            progress(done, len(names))
    return asking


def _make_scene(name: str, place: int, pictures: Path, queries: Path) -> Path:
    image = scenes.paint(name)
    rng = np.random.default_rng(zlib.crc32(name.encode()) + 1)
    asking = FORMS[place % len(FORMS)]  # every form asks equally often
    for form, change in VARIANTS.items():
        folder = queries if form == asking else pictures
        change(image, rng).save(folder / f"{name}--{form}.jpg", quality=88)
    return queries / f"{name}--{asking}.jpg"
