"""What people pass as numbers and pictures -> what the C API and the wire take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

Picture = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]"]
"""A picture: its file's bytes, or the path of the file."""

Box = tuple[int, int, int, int]
"""(x, y, w, h): a rectangle of the upright picture, in pixels."""


def as_array(value: Any, name: str) -> NDArray[Any]:
    """Anything with ``__array__``, the buffer protocol or DLPack, or nested lists, as an array.

    Raises ValueError for what is no array of numbers, such as rows of different lengths.
    """
    if type(value) is np.ndarray:
        array = value
    else:
        array = _converted(value, name)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: numbers wanted, got an array of {array.dtype}")
    return array


def _converted(value: Any, name: str) -> NDArray[Any]:
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        value = np.from_dlpack(value)
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # ragged lists; a tensor that is not in host memory
        raise ValueError(f"{name}: no array of numbers: {error}") from error


def as_rows(value: Any, dim: int, name: str) -> NDArray[np.float32]:
    """Vectors as C-contiguous float32 of shape [n][dim]; one vector of shape [dim] counts as one row."""
    array = as_array(value, name)
    if array.ndim == 1 and array.shape[0] == dim:
        array = array[np.newaxis, :]
    if array.ndim != 2 or array.shape[1] != dim:
        raise ValueError(f"{name}: shape [n][{dim}] wanted, got {_shape(array)}")
    return np.ascontiguousarray(array, dtype=np.float32)


def as_labels(value: Any, name: str) -> NDArray[np.uint64]:
    """Ids as uint64 of shape [n]: whole numbers from 0 to 2^63-1; a single number counts as one."""
    array = np.atleast_1d(np.asarray(value))
    if array.size == 0:
        return np.empty(0, np.uint64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name}: shape [n] of whole numbers wanted, got {_shape(array)} of {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 2**63:
        raise ValueError(f"{name}: ids go from 0 to 2^63-1, got {low} to {high}")
    return np.ascontiguousarray(array, dtype=np.uint64)


def is_one_picture(value: Any) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview, str, os.PathLike))


def picture_bytes(picture: Picture) -> bytes:
    """The bytes of a picture given either way. Raises OSError for a path that cannot be read."""
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return bytes(picture)
    return Path(picture).read_bytes()


def as_box(crop: Box) -> Box:
    if len(crop) != 4 or min(crop) < 0 or max(crop) >= 2**32:
        raise ValueError(f"crop: (x, y, w, h) in pixels wanted, got {crop!r}")
    return crop


def _shape(array: NDArray[Any]) -> str:
    return "".join(f"[{extent}]" for extent in array.shape) or "a single number"
