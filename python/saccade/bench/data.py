"""Data sets by name or by file, kept as arrays that every process maps, with their true neighbours."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import crops, files, makers
from .engines import Shape
from .engines.brute import nearest

TRUE_K = 100  # neighbours that are kept of every query
_BLOCK = 65536  # rows converted at once


@dataclass(frozen=True)
class Source:
    """Where a data set comes from. metric: "l2", "ip" or "cosine"; truth: ids given with it, or None."""

    base: NDArray[Any]
    queries: NDArray[Any]
    metric: str
    words: str
    truth: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class DataSet:
    """Vectors as float32. Under cosine they have length 1 and the metric is l2, which ranks the same.

    bound [queries]: distance of the k-th true neighbour; another row at that distance is as good.
    """

    name: str
    words: str
    base: NDArray[np.float32]
    queries: NDArray[np.float32]
    metric: str
    hash: str
    truth: NDArray[np.int64]  # [queries][k]
    bound: NDArray[np.float64]
    truth_by: str
    folder: Path

    @property
    def shape(self) -> Shape:
        whole = all(_whole(rows[:10_000]) for rows in (self.base, self.queries))
        return Shape(len(self.base), self.base.shape[1], self.metric, whole)

    def recall(self, asked: NDArray[np.intp], ids: NDArray[np.int64]) -> float:
        """Share of the k nearest that were found, over the queries `asked` [n] answered with ids [n][k]. A row as near
        as the k-th counts, an id that comes twice counts once."""
        if len(asked) == 0:
            return 0.0
        k = self.truth.shape[1]
        ids = np.sort(ids, axis=1)
        valid = (ids >= 0) & (ids < len(self.base))
        valid[:, 1:] &= ids[:, 1:] != ids[:, :-1]
        good = valid & (ids[:, :, np.newaxis] == self.truth[asked][:, np.newaxis, :]).any(axis=2)
        rest = np.nonzero(valid & ~good)
        queries = asked[rest[0]]
        good[rest] = distances(self.base, ids[rest], self.queries[queries], self.metric) <= self.bound[queries]
        return float(np.minimum(good.sum(axis=1), k).mean()) / k


def _whole(rows: NDArray[np.float32]) -> bool:
    return bool(((rows >= 0) & (rows <= 255) & (rows == np.rint(rows))).all())


def distances(
    base: NDArray[np.float32], ids: NDArray[np.int64], queries: NDArray[np.float32], metric: str
) -> NDArray[np.float64]:
    """Of the rows of ids [n] to queries [n][dim], one to one, in double precision; smaller is nearer."""
    rows, others = base[ids].astype(np.float64), queries.astype(np.float64)
    if metric == "ip":
        return -np.einsum("ij,ij->i", rows, others)
    difference: NDArray[np.float64] = ((rows - others) ** 2).sum(axis=1)
    return difference


# ---- names ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A data set that has a name: what it is, and how it is got. make(materials, folder) may keep in the folder what it
    has, to go on from there if it is stopped; once the data are stored, the folder is removed."""

    words: str
    make: Callable[[makers.Materials, Path], Source]


def _clusters(count: int, dim: int, queries: int = 2_000) -> Named:
    def make(materials: makers.Materials, folder: Path) -> Source:
        recipe = makers.Clusters(materials.count(count), queries, dim, seed=materials.seed)
        return Source(*makers.clusters(recipe), "l2", recipe.words)

    return Named(makers.Clusters(count, queries, dim).words, make)


def _sift(materials: makers.Materials, folder: Path) -> Source:
    base, queries = makers.sift_of_photos(materials, materials.count(1_000_000), 10_000)
    return Source(base, queries, "l2", f"SIFT of {materials.photos_words}, queries of other photos")


def _crops(materials: makers.Materials, folder: Path) -> Source:
    base, queries = crops.embeddings_of_crops(materials, materials.count(1_000_000), 2_000, folder)
    words = f"{materials.model_words} of random resized crops of {materials.photos_words}, queries of other photos"
    return Source(base, queries, "cosine", words)


def _shipped(stem: str) -> Callable[[makers.Materials, Path], Source]:
    def load(materials: makers.Materials, folder: Path) -> Source:
        vectors = Path(os.environ.get("SACCADE_TEST_DATA", "../shared/data")) / "vectors"
        if not (vectors / f"{stem}_base.fvecs").exists():
            raise ValueError(f"no {vectors}/{stem}_base.fvecs; SACCADE_TEST_DATA names the folder of test data")
        base = files.read(vectors / f"{stem}_base.fvecs", materials.limit)
        queries = files.read(vectors / f"{stem}_query.fvecs")
        return Source(base, queries, "l2", f"{stem} of the test data")

    return load


NAMES: dict[str, Named] = {
    "sift-photos": Named("1,000,000 x 128 SIFT descriptors of the photos in --photos", _sift),
    "vit-crops": Named("1,000,000 embeddings by --model of random resized crops of the photos in --photos", _crops),
    "clusters-512": _clusters(1_000_000, 512),
    "clusters-768": _clusters(200_000, 768),
    "clusters-small": _clusters(20_000, 96, 500),
    "photosift10k": Named("10,000 x 128 SIFT of photos, from the test data", _shipped("photosift10k")),
    "sift5k": Named("4,800 x 128 SIFT, from the test data", _shipped("sift5k")),
    "tiny_vit": Named("3,600 x 192 ViT-Tiny embeddings, from the test data", _shipped("tiny_vit")),
}


def source_of(
    path: Path, queries: Path | None = None, truth: Path | None = None, metric: str | None = None, limit: int = 0
) -> tuple[str, Source]:
    """(short name, where it comes from) of a file of vectors with `queries` beside it, an ann-benchmarks HDF5 file, or
    a folder with base.* and query.* in it. limit: only the first so many vectors; a truth given is of all then."""
    given = None if truth is None or limit else files.read_truth(truth)
    if path.suffix in (".hdf5", ".h5"):
        base, asked, neighbours, found = files.read_hdf5(path, limit)
        if given is None and not limit:
            given = neighbours
        return path.stem, Source(base, asked, metric or found, path.name, given)
    if path.is_dir():
        base_path, queries = _in_folder(path, "base"), queries or _in_folder(path, "query")
        short = path.resolve().name
    elif path.exists():
        base_path, short = path, path.stem
    else:
        raise ValueError(f"no data set {path}: neither a name ({' '.join(NAMES)}) nor a file or folder")
    if queries is None:
        raise ValueError(f"{path}: --queries FILE must name the vectors to ask with")
    return short, Source(files.read(base_path, limit), files.read(queries), metric or "l2", base_path.name, given)


def _in_folder(folder: Path, stem: str) -> Path:
    found = [p for s in (".u8bin", ".fbin", *files.SUFFIXES) for p in sorted(folder.glob(f"{stem}*{s}"))]
    if not found:
        raise ValueError(f"{folder}: no {stem}.* among {' '.join(files.SUFFIXES)}")
    return found[0]


# ---- keeping ---------------------------------------------------------------------------------------------


def named(name: str, materials: makers.Materials, folder: Path) -> Source:
    """The source of a name; what was made from the same materials before is taken from the folder."""
    place = folder / name
    recipe = {f.name: str(getattr(materials, f.name)) for f in fields(materials)}
    made = place / "made.json"
    if made.exists():
        kept = json.loads(made.read_text())
        if kept["materials"] == recipe:
            arrays = (np.load(place / f"{part}.npy", mmap_mode="r") for part in ("base", "every-query"))
            return Source(*arrays, kept["metric"], kept["words"])
    made.unlink(missing_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    source = NAMES[name].make(materials, place / "unfinished")
    unit = source.metric == "cosine"
    base, queries = _kept(place / "base.npy", source.base, unit), _kept(place / "every-query.npy", source.queries, unit)
    metric = "l2" if unit else source.metric
    made.write_text(json.dumps({"materials": recipe, "metric": metric, "words": source.words}))
    shutil.rmtree(place / "unfinished", ignore_errors=True)
    return Source(base, queries, metric, source.words)


def prepare(name: str, source: Source, folder: Path, k: int, query_count: int) -> DataSet:
    """Writes a source's vectors as arrays, hashes them, finds the true neighbours; what is there is taken."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    asked = source.queries[:query_count] if query_count else source.queries
    unit = source.metric == "cosine"
    base = _kept(place / "base.npy", source.base, unit)
    queries = _kept(place / "queries.npy", asked, unit)
    if base.shape[1] != queries.shape[1]:
        raise ValueError(f"{name}: the base has dimension {base.shape[1]}, the queries {queries.shape[1]}")
    if len(base) < k:
        raise ValueError(f"{name}: {len(base)} vectors have no {k} neighbours")
    metric = "l2" if unit else source.metric
    digest = _hash(metric, base, queries)
    ids, by = _truth(place, source, base, queries, metric, k, digest)
    bound = distances(base, ids[:, k - 1], queries, metric)
    bound += np.abs(bound) * 1e-6  # float32 rounding in what the truth was computed by
    return DataSet(name, source.words, base, queries, metric, digest, ids[:, :k], bound, by, place)


def _hash(metric: str, *arrays: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(metric.encode())
    for array in arrays:
        digest.update(repr(array.shape).encode())
        for at in range(0, len(array), _BLOCK):
            digest.update(np.ascontiguousarray(array[at : at + _BLOCK]))
    return digest.hexdigest()


def _kept(path: Path, rows: NDArray[Any], unit: bool) -> NDArray[np.float32]:
    """rows as a mapped float32 array in a file, which is only written where it holds others."""
    if not (path.exists() and _same(np.load(path, mmap_mode="r"), rows, unit)):
        partial = path.with_suffix(".partial.npy")
        out = np.lib.format.open_memmap(partial, "w+", np.float32, rows.shape)
        for at in range(0, len(rows), _BLOCK):
            out[at : at + _BLOCK] = _converted(rows[at : at + _BLOCK], unit)
        out.flush()
        partial.rename(path)
    kept: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return kept


def _converted(rows: NDArray[Any], unit: bool) -> NDArray[np.float32]:
    block = np.asarray(rows, np.float32)
    if not np.isfinite(block).all():
        raise ValueError("the vectors hold NaN or infinity")
    if unit:
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        block = block / np.where(lengths > 0, lengths, 1)
    return block


def _same(kept: NDArray[np.float32], rows: NDArray[Any], unit: bool) -> bool:
    return kept.shape == rows.shape and all(
        np.array_equal(kept[at : at + _BLOCK], _converted(rows[at : at + _BLOCK], unit))
        for at in range(0, len(rows), _BLOCK)
    )


def _truth(place: Path, source: Source, base: NDArray[np.float32], queries: NDArray[np.float32], metric: str, k: int,
           digest: str) -> tuple[NDArray[np.int64], str]:  # fmt: skip
    """(ids, by what): given with the data, kept from before, or by FAISS's exhaustive search."""
    if source.truth is not None and source.truth.shape[1] >= k and len(source.truth) >= len(queries):
        return source.truth[: len(queries)], "given with the data"
    path = place / f"truth-{digest[:12]}.npz"
    if not path.exists():
        count = min(TRUE_K, len(base))
        try:
            from .engines.faiss import flat

            ids, by = flat(base, queries, count, metric), "FAISS IndexFlat"
        except ImportError:
            ids, by = nearest(base, queries, count, metric), "NumPy products"
        np.savez(path.with_suffix(".partial.npz"), ids=ids, by=by)
        path.with_suffix(".partial.npz").rename(path)
    with np.load(path) as kept:
        if kept["ids"].shape[1] < k:
            raise ValueError(f"k: up to {kept['ids'].shape[1]} neighbours are kept, got {k}")
        return kept["ids"], str(kept["by"])


def describe(data: DataSet) -> dict[str, Any]:
    """What makes a set easy or hard: its spectrum, and its intrinsic dimension around the queries (Levina and Bickel's
    maximum-likelihood estimate, 2004, over the k true neighbours)."""
    sample = data.base[:: max(1, len(data.base) // 20_000)].astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(sample, rowvar=False))[::-1]
    share = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
    facts: dict[str, Any] = {
        f"dimensions_of_{percent}_percent": int(np.searchsorted(share, percent / 100) + 1) for percent in (50, 90, 99)
    }
    estimates = []
    for query, ids in zip(data.queries[:500], data.truth, strict=False):
        d = np.sqrt(distances(data.base, ids, query[np.newaxis], "l2"))
        if len(d) > 2 and d[0] > 0 and d[-1] > d[0]:
            estimates.append((len(d) - 2) / np.log(d[-1] / d[:-1]).sum())
    if estimates:
        facts["intrinsic_dimension"] = round(float(np.median(estimates)), 1)
    return facts


def summary(data: DataSet) -> dict[str, Any]:
    """For a report."""
    return {
        "name": data.name, "what": data.words, "count": len(data.base), "dim": data.base.shape[1],
        "queries": len(data.queries), "metric": data.metric, "sha256": data.hash, "truth": data.truth_by,
        **_described(data),
    }  # fmt: skip


def _described(data: DataSet) -> dict[str, Any]:
    path = data.folder / f"describe-{data.hash[:12]}-{data.truth.shape[1]}.json"
    if not path.exists():
        path.write_text(json.dumps(describe(data)))
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts
