"""The C API of libsaccade (engine/saccade.h) through ctypes: where it is, its structs, its functions.

Structs and prototypes repeat the header; tests/python/test_layout.py compares them with what a C compiler
makes of it. ctypes releases the GIL while a call runs.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from .errors import Error, VersionMismatch, local_error

VERSION = "0.1.0"  # of this package, and of the library it was written for


class Failure(ctypes.Structure):  # sac_error
    _fields_ = [("status", c_int), ("text", c_char * 512)]


class DeviceOptions(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("threads", c_uint32),
        ("isa", c_char_p),
        ("require_gpu", c_bool),
        ("memory", c_uint64),
        ("host_memory", c_uint64),
    ]


class DeviceMemory(ctypes.Structure):
    _fields_ = [("budget", c_uint64), ("used", c_uint64)]


class Progress(ctypes.Structure):
    _fields_ = [
        ("stage", c_char_p),
        ("done", c_uint64),
        ("total", c_uint64),
        ("failed", c_uint64),
        ("seconds", c_double),
        ("seconds_left", c_double),
    ]


class ImageLimits(ctypes.Structure):
    _fields_ = [
        ("bytes", c_size_t),
        ("side_min", c_uint32),
        ("side_max", c_uint32),
        ("pixels", c_uint64),
        ("pixels_progressive", c_uint64),
        ("scan_blocks", c_uint64),
        ("decoder_bytes", c_size_t),
        ("milliseconds", c_uint32),
    ]


class Image(ctypes.Structure):
    _fields_ = [("width", c_uint32), ("height", c_uint32), ("rgb", c_void_p)]


class Crop(ctypes.Structure):
    _fields_ = [("x", c_uint32), ("y", c_uint32), ("w", c_uint32), ("h", c_uint32)]


class EncoderOptions(ctypes.Structure):
    _fields_ = [("precision", c_char_p), ("batch_max", c_uint32), ("limits", ImageLimits)]


class IndexParams(ctypes.Structure):
    _fields_ = [("dim", c_uint32), ("metric", c_int), ("spec", c_char_p), ("seed", c_uint64)]


class RecallPoint(ctypes.Structure):
    _fields_ = [("recall", c_float), ("nprobe", c_uint32), ("depth", c_uint32), ("reach", c_float)]


class Hit(ctypes.Structure):
    _fields_ = [("label", c_uint64), ("distance", c_float), ("score", c_float)]


class Query(ctypes.Structure):
    # The two pointers are plain integers, so that a NumPy array of this struct can be filled at once.
    _fields_ = [
        ("vector", c_size_t),
        ("k", c_uint32),
        ("recall", c_float),
        ("nprobe", c_uint32),
        ("depth", c_uint32),
        ("exact", c_bool),
        ("no_rescore", c_bool),
        ("score_threshold", c_float),
        ("allow", c_size_t),
        ("allow_count", c_size_t),
        ("hits", c_size_t),
        ("hit_count", c_uint32),
    ]


class TuneParams(ctypes.Structure):
    _fields_ = [
        ("dim", c_uint32),
        ("metric", c_int),
        ("k", c_uint32),
        ("n", c_size_t),
        ("vectors", c_void_p),
        ("count", c_uint64),
        ("query_count", c_size_t),
        ("queries", c_void_p),
        ("recall", c_float),
        ("latency", c_double),
        ("memory", c_uint64),
        ("seconds", c_double),
        ("seed", c_uint64),
    ]


class Tuned(ctypes.Structure):
    _fields_ = [
        ("spec", c_char * 64),
        ("nprobe", c_uint32),
        ("depth", c_uint32),
        ("ask", c_float),
        ("recall", c_float),
        ("recall_error", c_float),
        ("reaches", c_bool),
        ("verified", c_bool),
        ("extrapolated", c_bool),
        ("rows", c_uint64),
        ("seconds_mean", c_double),
        ("seconds_p50", c_double),
        ("seconds_p99", c_double),
        ("batch_rate", c_double),
        ("bytes", c_uint64),
        ("build_seconds", c_double),
    ]


class Tuning(ctypes.Structure):
    _fields_ = [
        ("at", POINTER(Tuned)),
        ("count", c_size_t),
        ("out_of_time", c_bool),
        ("held_back", c_bool),
        ("query_count", c_uint32),
        ("seconds", c_double),
    ]


class IndexInfo(ctypes.Structure):
    _fields_ = [
        ("dim", c_uint32),
        ("metric", c_int),
        ("spec", c_char * 64),
        ("count", c_uint64),
        ("trained", c_bool),
        ("measured", c_bool),
        ("nlist", c_uint32),
        ("m", c_uint32),
        ("nbits", c_uint32),
        ("list_imbalance", c_double),
        ("bytes_codes", c_uint64),
        ("bytes_vectors", c_uint64),
        ("bytes_other", c_uint64),
        ("bytes_vectors_host", c_uint64),
    ]


ProgressFn = ctypes.CFUNCTYPE(c_bool, c_void_p, POINTER(Progress))
LabelFn = ctypes.CFUNCTYPE(c_bool, c_void_p, c_uint64)
VectorFn = ctypes.CFUNCTYPE(c_bool, c_void_p, c_uint64, POINTER(c_float))

# name: (result, arguments...); arrays and handles are void pointers, the last argument of a function that
# can fail is the sac_error.
_ERR = POINTER(Failure)
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "sac_version": (c_char_p,),
    "sac_status_name": (c_char_p, c_int),
    "sac_metric_parse": (c_int, c_char_p, POINTER(c_int), _ERR),
    "sac_metric_name": (c_char_p, c_int),
    "sac_device_options_init": (None, POINTER(DeviceOptions)),
    "sac_device_open": (c_int, POINTER(DeviceOptions), POINTER(c_void_p), _ERR),
    "sac_device_close": (None, c_void_p),
    "sac_device_describe": (c_char_p, c_void_p),
    "sac_device_threads": (c_uint32, c_void_p),
    "sac_device_memory_describe": (None, c_void_p, POINTER(DeviceMemory)),
    "sac_device_lost": (c_bool, c_void_p),
    "sac_image_decode": (c_int, c_char_p, c_size_t, POINTER(ImageLimits), POINTER(POINTER(Image)), _ERR),
    "sac_image_free": (None, POINTER(Image)),
    "sac_image_formats": (c_char_p,),
    "sac_encoder_options_init": (None, POINTER(EncoderOptions)),
    "sac_encoder_open": (c_int, c_void_p, c_char_p, POINTER(EncoderOptions), POINTER(c_void_p), _ERR),
    "sac_encoder_close": (None, c_void_p),
    "sac_encoder_dim": (c_uint32, c_void_p),
    "sac_encoder_name": (c_char_p, c_void_p),
    "sac_encoder_fingerprint": (c_char_p, c_void_p),
    "sac_encoder_pixel_bytes": (c_size_t, c_void_p),
    "sac_encoder_prepare": (c_int, c_void_p, c_char_p, c_size_t, POINTER(Crop), POINTER(c_void_p), _ERR),
    "sac_encoder_prepare_image": (c_int, c_void_p, POINTER(Image), POINTER(Crop), POINTER(c_void_p), _ERR),
    "sac_prepared_free": (None, c_void_p),
    "sac_encoder_embed": (c_int, c_void_p, c_size_t, POINTER(c_void_p), c_void_p, _ERR),
    "sac_index_params_init": (None, POINTER(IndexParams)),
    "sac_index_create": (c_int, c_void_p, POINTER(IndexParams), POINTER(c_void_p), _ERR),
    "sac_index_close": (None, c_void_p),
    "sac_index_train": (c_int, c_void_p, c_size_t, c_void_p, c_size_t, ProgressFn, c_void_p, _ERR),
    "sac_index_add": (c_int, c_void_p, c_size_t, c_void_p, c_void_p, ProgressFn, c_void_p, _ERR),
    "sac_index_delete": (c_int, c_void_p, c_size_t, c_void_p, POINTER(c_size_t), _ERR),
    "sac_index_reconstruct": (c_int, c_void_p, c_uint64, c_void_p, _ERR),
    "sac_index_contains": (c_bool, c_void_p, c_uint64),
    "sac_index_measure": (c_int, c_void_p, ProgressFn, c_void_p, _ERR),
    "sac_index_recall_curve": (c_size_t, c_void_p, POINTER(RecallPoint), c_size_t),
    "sac_index_search": (c_int, c_void_p, c_void_p, c_size_t, _ERR),
    "sac_index_describe": (None, c_void_p, POINTER(IndexInfo)),
    "sac_index_save": (c_int, c_void_p, c_char_p, c_bool, _ERR),
    "sac_index_load": (c_int, c_void_p, c_char_p, VectorFn, c_void_p, POINTER(c_void_p), _ERR),
    "sac_index_each_label": (None, c_void_p, LabelFn, c_void_p),
    "sac_tune_params_init": (None, POINTER(TuneParams)),
    "sac_tune": (c_int, c_void_p, POINTER(TuneParams), ProgressFn, c_void_p, POINTER(POINTER(Tuning)), _ERR),
    "sac_tuning_free": (None, POINTER(Tuning)),
}


def path() -> Path:
    """Where libsaccade is: $SACCADE_LIBRARY, beside this file (installed), or built in this checkout."""
    named = os.environ.get("SACCADE_LIBRARY")
    here = Path(__file__).resolve().parent
    candidates = [Path(named)] if named else [
        here / "libsaccade.so",
        here.parent.parent / "build/release/libsaccade.so.0",
    ]  # fmt: skip
    for candidate in candidates:
        if candidate.exists():
            return candidate
    places = " or ".join(str(c) for c in candidates)
    raise ImportError(
        f"no libsaccade at {places}: build it (./dev build), pip install ./python, or set SACCADE_LIBRARY"
    )


@functools.cache
def load() -> ctypes.CDLL:
    """The library, loaded on first use, so that the clients for the wire work without it."""
    library = ctypes.CDLL(str(path()))
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    found: str = library.sac_version().decode()
    if found != VERSION:
        raise VersionMismatch(f"{path()} is libsaccade {found}, this package is for {VERSION}: install them together")
    return library


def check(name: str, *arguments: Any) -> None:
    """Calls a function that can fail, appending its sac_error, and raises what it reports."""
    failure = Failure()
    status = getattr(load(), name)(*arguments, ctypes.byref(failure))
    if status != 0:
        raise error(status, failure.text.decode("utf-8", "replace"))


def text(name: str, *arguments: Any) -> str:
    """Calls a function that returns a string."""
    raw: bytes = getattr(load(), name)(*arguments)
    return raw.decode("utf-8", "replace")


def error(status: int, words: str) -> Error:
    return local_error(text("sac_status_name", status), words)
