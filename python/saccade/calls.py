"""The methods of the protocol: arguments as people have them -> a Call; both clients get theirs from here.

Each takes ``timeout`` in seconds for the whole call (default: the client's, else 5 for reads, 30 for writes)
and raises, besides what it names, ServerError, DeadlineExceeded and Disconnected.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._inputs import Box, Picture, as_array, as_box, is_one_picture, picture_bytes
from .wire import Call

Id = int | str
"""A number from 0 to 2^63-1, or text of up to 256 bytes."""

Attribute = int | float | str

M = TypeVar("M", bound=Callable[..., Any])


@dataclass(frozen=True)
class Item:
    """One item of a collection. To put: an id with a vector [dim] or an image (bytes or path, perhaps cropped
    to x, y, w, h). From get: the parts asked for."""

    id: Id
    vector: ArrayLike | None = None
    image: Picture | None = None
    crop: Box | None = None
    attributes: Mapping[str, Attribute] | None = None
    source: str | None = None


@dataclass(frozen=True)
class Hit:
    """score: larger is nearer; distance: smaller is nearer. The rest: where asked for by ``with_``."""

    id: Id
    score: float
    distance: float
    attributes: dict[str, Attribute] | None = None
    vector: NDArray[np.float32] | None = field(default=None, compare=False)
    source: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """Hits, nearest first; query_id names the request; took_ms is the server's time."""

    query_id: str
    hits: list[Hit]
    took_ms: float


@dataclass(frozen=True)
class Embedding:
    """vectors: [n][dim], each of length 1, made by the model of that name and fingerprint."""

    model: str
    fingerprint: str
    vectors: NDArray[np.float32]
    took_ms: float


def describe(method: M, build: Callable[..., Any]) -> M:
    """Gives a client's method the name, the text and the signature of the function that builds its call."""
    signature = inspect.signature(build)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    answer = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    method.__name__, method.__doc__ = build.__name__, build.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[this, *signature.parameters.values()], return_annotation=answer
    )
    return method


def ping(*, timeout: float | None = None) -> Call[str]:
    """Answers "pong", also while the server is busy or draining."""
    return Call("ping", {}, str, timeout=timeout)


def info(collection: str | None = None, *, timeout: float | None = None) -> Call[dict[str, Any]]:
    """What the server is, or what a collection is: the map that PROTOCOL.md lists under info."""
    return Call("info", _given(collection=collection), dict, timeout=timeout)


def stats(collection: str | None = None, *, timeout: float | None = None) -> Call[dict[str, Any]]:
    """Counts and bytes of the server or of a collection: the map that PROTOCOL.md lists under stats."""
    return Call("stats", _given(collection=collection), dict, timeout=timeout)


def create(
    collection: str,
    *,
    dim: int | None = None,
    model: str | None = None,
    metric: str | None = None,
    index: str | None = None,
    timeout: float | None = None,
) -> Call[dict[str, Any]]:
    """Makes a collection: dim for vectors, model ("builtin", ...) for pictures. metric: "cosine"; index: "auto".

    Making the same again changes nothing; AlreadyExists where a different one has the name.
    """
    fields = _given(collection=collection, dim=dim, model=model, metric=metric, index=index)
    return Call("create", fields, dict, write=True, timeout=timeout)


def drop(collection: str, *, timeout: float | None = None) -> Call[None]:
    """Removes a collection with everything in it. Raises NotFound."""
    return Call("drop", {"collection": collection}, lambda result: None, write=True, timeout=timeout)


def list_collections(*, timeout: float | None = None) -> Call[list[str]]:
    """The names of all collections."""
    return Call("list", {}, lambda result: list(result["collections"]), timeout=timeout)


def put(collection: str, items: Iterable[Item | Mapping[str, Any]], *, timeout: float | None = None) -> Call[int]:
    """Inserts or replaces 1 to 1000 items (64 with images), all or none; returns how many.

    Items are Item objects or maps with the same names. When it returns they are on disk, and every search
    finds them. The server embeds images with the collection's model.
    """
    fields = {"collection": collection, "items": [_item(item) for item in items]}
    return Call("put", fields, lambda result: int(result["stored"]), write=True, timeout=timeout)


def delete(collection: str, ids: Iterable[Id], *, timeout: float | None = None) -> Call[int]:
    """Deletes those of 1 to 1000 ids that are there; returns how many."""
    fields = {"collection": collection, "ids": list(ids)}
    return Call("delete", fields, lambda result: int(result["deleted"]), write=True, timeout=timeout)


def get(
    collection: str,
    ids: Iterable[Id],
    *,
    with_: Sequence[str] = ("attributes", "source"),
    timeout: float | None = None,
) -> Call[list[Item | None]]:
    """The items of 1 to 1000 ids in that order, None where there is none; with_ names parts."""
    fields = {"collection": collection, "ids": list(ids), "with": list(with_)}
    return Call("get", fields, lambda result: [_parse_item(item) for item in result["items"]], timeout=timeout)


def count(collection: str, *, timeout: float | None = None) -> Call[int]:
    """How many items a collection holds."""
    return Call("count", {"collection": collection}, lambda result: int(result["count"]), timeout=timeout)


def search(
    collection: str,
    *,
    vector: ArrayLike | None = None,
    image: Picture | None = None,
    id: Id | None = None,
    k: int = 10,
    recall: float | None = None,
    nprobe: int | None = None,
    rescore: bool | None = None,
    oversampling: float | None = None,
    exact: bool | None = None,
    crop: Box | None = None,
    score_threshold: float | None = None,
    with_: Sequence[str] = (),
    timeout: float | None = None,
) -> Call[SearchResult]:
    """The k (1 to 1000) items nearest to one of: a vector [dim]; an image (bytes or path), or the part of it
    in crop (x, y, w, h); the item of an id, itself left out.

    recall: the recall@10 wanted (the server's default is 0.95); nprobe: lists to look into instead.
    rescore: re-rank candidates by their full vectors; oversampling: how many, as a multiple of k.
    exact: compare with every vector. score_threshold: leave out hits with a smaller score.
    with_: what hits carry, of "attributes", "vector", "source".
    """
    fields = _given(
        collection=collection,
        vector=None if vector is None else _vector(vector),
        image=None if image is None else picture_bytes(image),
        id=id,
        **_options(k, recall, nprobe, rescore, oversampling, exact, crop, score_threshold, with_),
    )
    if sum(name in fields for name in ("vector", "image", "id")) != 1:
        raise ValueError("search: one of vector, image and id wanted")
    return Call("search", fields, lambda result: _parse_result(result, result["hits"]), timeout=timeout)


def search_many(
    collection: str,
    *,
    vectors: ArrayLike | None = None,
    images: Sequence[Picture] | None = None,
    k: int = 10,
    recall: float | None = None,
    nprobe: int | None = None,
    rescore: bool | None = None,
    oversampling: float | None = None,
    exact: bool | None = None,
    crop: Box | None = None,
    score_threshold: float | None = None,
    with_: Sequence[str] = (),
    timeout: float | None = None,
) -> Call[list[SearchResult]]:
    """search() for each of up to 256 vectors [n][dim], or 64 images, in one request with the same options."""
    fields = _given(
        collection=collection,
        vectors=None if vectors is None else _vectors(vectors),
        images=None if images is None else _images(images),
        **_options(k, recall, nprobe, rescore, oversampling, exact, crop, score_threshold, with_),
    )
    if ("vectors" in fields) == ("images" in fields):
        raise ValueError("search_many: one of vectors and images wanted")
    return Call(
        "search", fields, lambda result: [_parse_result(result, hits) for hits in result["hits"]], timeout=timeout
    )


def embed(
    images: Sequence[Picture],
    *,
    collection: str | None = None,
    model: str | None = None,
    crop: Box | None = None,
    timeout: float | None = None,
) -> Call[Embedding]:
    """The vectors of up to 64 images (bytes or paths), by a collection's model or by the model named ("builtin")."""
    fields = _given(images=_images(images), collection=collection, model=model, crop=_crop(crop))
    return Call("embed", fields, _parse_embedding, timeout=timeout)


# ---- fields ------------------------------------------------------------------------------------------


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _options(
    k: int,
    recall: float | None,
    nprobe: int | None,
    rescore: bool | None,
    oversampling: float | None,
    exact: bool | None,
    crop: Box | None,
    score_threshold: float | None,
    with_: Sequence[str],
) -> dict[str, Any]:
    return {
        "k": k, "recall": recall, "nprobe": nprobe, "rescore": rescore, "oversampling": oversampling,
        "exact": exact, "crop": _crop(crop), "score_threshold": score_threshold, "with": list(with_) or None,
    }  # fmt: skip


def _vector(value: ArrayLike) -> bytes:
    array = as_array(value, "vector")
    if array.ndim != 1:
        raise ValueError(f"vector: one vector [dim] wanted, got shape {array.shape}")
    return array.astype("<f4").tobytes()


def _vectors(value: ArrayLike) -> list[bytes]:
    array = as_array(value, "vectors")
    if array.ndim != 2 or len(array) == 0:
        raise ValueError(f"vectors: shape [n][dim] wanted, got {array.shape}")
    return [row.tobytes() for row in array.astype("<f4")]


def _images(images: Sequence[Picture]) -> list[bytes]:
    if is_one_picture(images):
        raise ValueError("images: a sequence of pictures wanted, got a single one")
    return [picture_bytes(image) for image in images]


def _crop(crop: Box | None) -> list[int] | None:
    return None if crop is None else list(as_box(crop))


def _item(item: Item | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(item, Item):
        item = Item(**item)
    if (item.vector is None) == (item.image is None):
        raise ValueError(f"item {item.id!r}: one of vector and image wanted")
    return _given(
        id=item.id,
        vector=None if item.vector is None else _vector(item.vector),
        image=None if item.image is None else picture_bytes(item.image),
        crop=_crop(item.crop),
        attributes=None if item.attributes is None else dict(item.attributes),
        source=item.source,
    )


# ---- results -----------------------------------------------------------------------------------------


def _floats(raw: bytes | None) -> NDArray[np.float32] | None:
    return None if raw is None else np.frombuffer(raw, "<f4").astype(np.float32)


def _parse_item(raw: dict[str, Any] | None) -> Item | None:
    if raw is None:
        return None
    vector = _floats(raw.get("vector"))
    return Item(raw["id"], vector, attributes=raw.get("attributes"), source=raw.get("source"))


def _parse_result(result: dict[str, Any], hits: list[dict[str, Any]]) -> SearchResult:
    parsed = [
        Hit(h["id"], h["score"], h["distance"], h.get("attributes"), _floats(h.get("vector")), h.get("source"))
        for h in hits
    ]
    return SearchResult(result["query_id"], parsed, result["took_ms"])


def _parse_embedding(result: dict[str, Any]) -> Embedding:
    vectors = np.frombuffer(b"".join(result["vectors"]), "<f4").astype(np.float32).reshape(-1, result["dim"])
    return Embedding(result["model"], result["fingerprint"], vectors, result["took_ms"])
