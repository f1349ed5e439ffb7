"""Vectors and true neighbours in the files that people have: .fvecs .bvecs .ivecs, .fbin .f16bin .u8bin .i8bin .ibin,
.npy, and the HDF5 files of ann-benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VECS = {".fvecs": "<f4", ".bvecs": "u1", ".ivecs": "<i4"}
BINS = {".fbin": "<f4", ".f16bin": "<f2", ".u8bin": "u1", ".i8bin": "i1", ".ibin": "<i4"}
SUFFIXES = (*VECS, *BINS, ".npy")


def read(path: Path, limit: int = 0) -> NDArray[Any]:
    """The rows [n][dim] of a file of vectors, in the type that they are stored in; limit: the first so many.

    Rows are mapped where the format allows it. Raises ValueError for what the file cannot be.
    """
    if path.suffix in VECS:
        rows: NDArray[Any] = _vecs(path, VECS[path.suffix])
    elif path.suffix in BINS:
        rows = _bin(path, BINS[path.suffix])
    elif path.suffix == ".npy":
        rows = np.load(path, mmap_mode="r")
        if rows.ndim != 2:
            raise ValueError(f"{path}: an array [n][dim] wanted, got {rows.ndim} dimensions")
    else:
        raise ValueError(f"{path}: no format that is read; there are {' '.join(SUFFIXES)}")
    return rows[:limit] if limit else rows


def _vecs(path: Path, dtype: str) -> NDArray[Any]:
    """A little-endian int32 dimension before every row."""
    raw = np.memmap(path, np.uint8, "r")
    dim = int(raw[:4].view("<i4")[0]) if len(raw) >= 4 else 0
    width = 4 + dim * np.dtype(dtype).itemsize
    if dim <= 0 or len(raw) % width != 0:
        raise ValueError(f"{path}: {len(raw)} bytes are no rows of dimension {dim}")
    rows: NDArray[Any] = np.ndarray((len(raw) // width, dim), dtype, raw, 4, (width, np.dtype(dtype).itemsize))
    return rows


def _bin(path: Path, dtype: str) -> NDArray[Any]:
    """Rows and dimension as two uint32, or two uint64 where only that fits the file's size."""
    size = path.stat().st_size
    for header in ("<u4", "<u8"):
        head = np.fromfile(path, header, 2)
        if len(head) == 2 and head.nbytes + int(head[0]) * int(head[1]) * np.dtype(dtype).itemsize == size:
            return np.memmap(path, dtype, "r", head.nbytes, (int(head[0]), int(head[1])))
    raise ValueError(f"{path}: its header does not go with its {size} bytes")


def read_truth(path: Path) -> NDArray[np.int64]:
    """ids [queries][k] of the true neighbours, nearest first: .ivecs, .ibin, .npy, or big-ann's ground truth, which is
    a header, all ids and then all distances."""
    if path.suffix in (*VECS, ".npy"):
        return np.array(read(path)).astype(np.int64)
    count, k = (int(n) for n in np.fromfile(path, "<u4", 2))
    size = path.stat().st_size
    if size not in (8 + count * k * 4, 8 + count * k * 8):
        raise ValueError(f"{path}: {size} bytes are no ids of {k} neighbours of {count} queries")
    return np.fromfile(path, "<i4", count * k, offset=8).reshape(count, k).astype(np.int64)


def write_fbin(path: Path, rows: NDArray[np.float32]) -> None:
    with open(path, "wb") as file:
        np.array(rows.shape, "<u4").tofile(file)
        np.ascontiguousarray(rows, "<f4").tofile(file)


def read_hdf5(path: Path, limit: int = 0) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], str]:
    """(base, queries, true neighbours, metric) of an ann-benchmarks file. Raises ValueError for a distance that no
    engine here has."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"{path}: h5py is not installed, which reads HDF5") from error
    names = {"euclidean": "l2", "angular": "cosine", "ip": "ip", "dot": "ip"}
    with h5py.File(path, "r") as file:
        distance = str(file.attrs.get("distance", "euclidean"))
        if distance not in names:
            raise ValueError(f"{path}: no engine has the distance {distance}; there are {' '.join(names)}")
        base = file["train"][: limit or None]
        return base, file["test"][:], file["neighbors"][:].astype(np.int64), names[distance]
