"""Pictures to pixels, and pictures to embeddings, in this process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _library
from ._inputs import Box, Picture, as_box, is_one_picture, picture_bytes
from .device import Device, Owned, default_device
from .errors import Error


def decode_image(picture: Picture) -> NDArray[np.uint8]:
    """Decodes a JPEG (PNG, WebP where built in) to upright RGB [height][width][3], as the engine sees it.

    Raises ImageRejected (over a limit, unsupported kind) and ImageCorrupt (damaged or cut short).
    """
    data = picture_bytes(picture)
    image = ctypes.POINTER(_library.Image)()
    _library.check("sac_image_decode", data, len(data), None, ctypes.byref(image))
    try:
        shape = (image.contents.height, image.contents.width, 3)
        buffer = (ctypes.c_uint8 * (shape[0] * shape[1] * 3)).from_address(image.contents.rgb)
        return np.frombuffer(buffer, np.uint8).reshape(shape).copy()
    finally:
        _library.load().sac_image_free(image)


class Encoder(Owned):
    """Turns pictures into vectors of length 1.

    model: a folder in the Hugging Face layout (config.json and model.safetensors), or "builtin": a classical
        descriptor that needs no weights.
    precision: "f32", "bf16", or "auto": bf16 where the CPU has instructions for it.
    batch: pictures that one pass takes at most.

    Raises NotFound, Malformed (header, names, shapes), Unsupported (model family).
    """

    def __init__(
        self, model: str | os.PathLike[str] = "builtin", *, precision: str = "auto", batch: int = 64,
        device: Device | None = None,
    ) -> None:  # fmt: skip
        if not 0 < batch < 2**32:
            raise ValueError(f"batch: 1 or more wanted, got {batch}")
        device = device or default_device()
        library = _library.load()
        options = _library.EncoderOptions()
        library.sac_encoder_options_init(options)
        options.precision, options.batch_max = precision.encode(), batch
        handle = ctypes.c_void_p()
        _library.check("sac_encoder_open", device.handle, os.fsencode(model), options, ctypes.byref(handle))
        super().__init__(handle, "sac_encoder_close", device)
        self.batch = batch
        self.dim: int = library.sac_encoder_dim(handle)
        self.name: str = _library.text("sac_encoder_name", handle)
        self.fingerprint: str = _library.text("sac_encoder_fingerprint", handle)

    def embed(self, pictures: Sequence[Picture | NDArray[np.uint8]], *, crop: Box | None = None) -> NDArray[np.float32]:
        """One vector for each picture: float32 [n][dim], each of length 1.

        A picture is its file's bytes, a path, or pixels: uint8 [height][width][3]. crop cuts each to
        (x, y, w, h) first. Pictures are decoded by as many threads as the device has.

        Raises ImageRejected or ImageCorrupt naming the picture's place in the sequence, and InvalidArgument
        for a crop outside a picture; FileNotFoundError and its like for paths.
        """
        if is_one_picture(pictures):
            raise ValueError("pictures: a sequence of pictures wanted, got a single one")
        vectors = np.empty((len(pictures), self.dim), np.float32)
        box = None if crop is None else _library.Crop(*as_box(crop))
        with ThreadPoolExecutor(self.device.threads) as pool:
            for start in range(0, len(pictures), self.batch):
                self._embed_batch(pool, start, pictures[start : start + self.batch], box, vectors[start:])
        return vectors

    def _embed_batch(
        self, pool: ThreadPoolExecutor, start: int, pictures: Sequence[Any], crop: Any, vectors: NDArray[np.float32]
    ) -> None:
        handles = (ctypes.c_void_p * len(pictures))()
        jobs = [pool.submit(self._prepare, start + i, p, crop, handles, i) for i, p in enumerate(pictures)]
        try:
            for job in jobs:
                job.result()
            _library.check("sac_encoder_embed", self._handle, len(pictures), handles, vectors.ctypes.data)
        finally:
            wait(jobs)
            for handle in handles:
                _library.load().sac_prepared_free(handle)

    def _prepare(self, place: int, picture: Any, crop: Any, handles: ctypes.Array[ctypes.c_void_p], i: int) -> None:
        handle = ctypes.c_void_p()
        try:
            if not isinstance(picture, np.ndarray):
                data = picture_bytes(picture)
                _library.check("sac_encoder_prepare", self._handle, data, len(data), crop, ctypes.byref(handle))
                handles[i] = handle
                return
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(f"uint8 [height][width][3] wanted, got {picture.dtype} {picture.shape}")
            rgb = np.ascontiguousarray(picture)
            image = _library.Image(rgb.shape[1], rgb.shape[0], rgb.ctypes.data)
            _library.check("sac_encoder_prepare_image", self._handle, image, crop, ctypes.byref(handle))
            handles[i] = handle
        except Error as error:
            raise type(error)(f"picture {place}: {error.text}") from None
        except ValueError as error:
            raise ValueError(f"picture {place}: {error}") from None

    def __repr__(self) -> str:
        return f"<saccade.Encoder {self.name}, {self.dim} dims>"
