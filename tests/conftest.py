"""What the Python tests share: test data, the built library and the binary."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from needs import ROOT, missing

sys.path.insert(0, str(ROOT / "python"))


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """data("photos"): a path in the test data."""
    folder = Path(os.environ.get("SACCADE_TEST_DATA", ROOT / "../shared/data"))

    def find(name: str) -> Path:
        if not (folder / name).exists():
            missing(f"no test data {folder / name} (SACCADE_TEST_DATA)")
        return folder / name

    return find


@pytest.fixture(scope="session")
def vectors(data: Callable[[str], Path]) -> Callable[[str], np.ndarray]:
    """vectors("sift5k/base.fvecs"): the rows of an .fvecs or .ivecs file, [n][dim]."""

    def read(name: str) -> np.ndarray:
        path = data(f"vectors/{name}")
        raw = np.fromfile(path, "<i4").reshape(-1, np.fromfile(path, "<i4", 1)[0] + 1)[:, 1:]
        return raw.view("<f4") if path.suffix == ".fvecs" else raw

    return read


@pytest.fixture(scope="session")
def library() -> Path:
    """Where libsaccade is."""
    from saccade import _library

    try:
        return _library.path()
    except ImportError as error:
        missing(str(error))


@pytest.fixture(scope="session")
def binary() -> Path:
    """The `saccade` executable: $SACCADE_BINARY, or the release build."""
    path = Path(os.environ.get("SACCADE_BINARY", ROOT / "build/release/saccade"))
    if not path.exists():
        missing(f"no {path}: ./dev build makes it")
    return path
