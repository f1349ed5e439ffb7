"""Where indexes and encoders compute."""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import NamedTuple

from . import _library


class Memory(NamedTuple):
    """Bytes that may be used, and that are in use through one device: on a CPU without a limit, 0."""

    budget: int
    used: int


class Device:
    """A processor and the threads it lends to operations. Safe to share between threads and objects.

    name: "auto" (a GPU, else the CPU), "cpu", "cuda:N" (the N-th GPU), several GPUs with commas ("cuda:0,cuda:1"),
        or "ref" (plain C, one thread: the truth in tests).
    threads: how many one operation may use; 0: one per core that the process may run on.
    isa: the most that may be used of "avx512", "avx2" or "base"; None: $SACCADE_CPU__ISA, else all there is.
    require_gpu: "auto" fails, saying why there is no GPU, instead of taking the CPU.
    memory: bytes of each GPU to use at most; 0: what is free when it is opened, less a twentieth.
    host_memory: bytes of this machine's memory to use at most where the CPU does the work: for indexes, for building
        and searching them, for models; 0: no limit. NumPy's arrays are not counted. What has no room raises
        DeviceMemory, before it begins where that can be told.

    Raises InvalidArgument for an unknown name, Unsupported where no such device is here.
    """

    def __init__(
        self,
        name: str = "auto",
        threads: int = 0,
        isa: str | None = None,
        *,
        require_gpu: bool = False,
        memory: int = 0,
        host_memory: int = 0,
    ) -> None:
        for name_of, value in (("threads", threads), ("memory", memory), ("host_memory", host_memory)):
            if value < 0:
                raise ValueError(f"{name_of}: 0 or more wanted, got {value}")
        library = _library.load()
        options = _library.DeviceOptions()
        library.sac_device_options_init(options)
        options.name, options.threads = name.encode(), threads
        options.isa = None if isa is None else isa.encode()
        options.require_gpu, options.memory, options.host_memory = require_gpu, memory, host_memory
        handle = ctypes.c_void_p()
        _library.check("sac_device_open", options, ctypes.byref(handle))
        self.handle = handle
        weakref.finalize(self, library.sac_device_close, handle)

    @property
    def description(self) -> str:
        """One line for people, such as "cpu: AVX-512 VBMI VNNI BF16 AMX, 2 threads"."""
        return _library.text("sac_device_describe", self.handle)

    @property
    def threads(self) -> int:
        return int(_library.load().sac_device_threads(self.handle))

    @property
    def memory(self) -> Memory:
        """The memory that indexes and searches live in."""
        memory = _library.DeviceMemory()
        _library.load().sac_device_memory_describe(self.handle, memory)
        return Memory(memory.budget, memory.used)

    @property
    def lost(self) -> bool:
        """True once a GPU has failed in a way that only a new process can mend."""
        return bool(_library.load().sac_device_lost(self.handle))

    def __repr__(self) -> str:
        return f"<saccade.Device {self.description}>"


@functools.cache
def default_device() -> Device:
    """The device of everything that is not given another: the best one, all its threads."""
    return Device()


class Owned:
    """Base of what is made on a device and has a C handle: ends it once, and before its device."""

    def __init__(self, handle: ctypes.c_void_p, close: str, device: Device) -> None:
        self._open_handle = handle
        self.device = device
        # The finalizer holds the device, so that it outlives the handle.
        self._finalizer = weakref.finalize(self, _close, getattr(_library.load(), close), handle, device)

    @property
    def _handle(self) -> ctypes.c_void_p:
        if not self._finalizer.alive:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._open_handle

    def close(self) -> None:
        """Frees the memory now rather than when the object is collected. No call may be in progress."""
        self._finalizer()


def _close(close_handle: object, handle: ctypes.c_void_p, device: Device) -> None:
    close_handle(handle)  # type: ignore[operator]
