"""saccade: visual search. A photograph goes in, the photographs that look like it come out.

In this process, over the C library:
    Index           vectors and their nearest neighbours; NumPy in and out
    tune            which index for a recall or a latency, and how to ask it
    Encoder         pictures to vectors
    decode_image    pictures to pixels
    Device          where they compute

Against a running ``saccade serve``:
    Client          blocking, safe to share between threads
    AsyncClient     asyncio, many requests in flight
"""

from . import errors
from ._library import VERSION as __version__
from .aio import AsyncClient
from .calls import Embedding, Hit, Item, SearchResult
from .client import Client
from .device import Device
from .encoder import Encoder, decode_image
from .errors import *
from .index import Index, IndexInfo, Progress, RecallPoint
from .tuning import Tuned, Tuning, tune

__all__ = [
    "AsyncClient",
    "Client",
    "Device",
    "Embedding",
    "Encoder",
    "Hit",
    "Index",
    "IndexInfo",
    "Item",
    "Progress",
    "RecallPoint",
    "SearchResult",
    "Tuned",
    "Tuning",
    "__version__",
    "decode_image",
    "tune",
]
__all__ += errors.__all__
