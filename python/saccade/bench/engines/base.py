"""What an engine must do to be measured."""

from __future__ import annotations

import abc
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Params = dict[str, Any]
"""Names and values that JSON can hold: of a build, or of a search."""


class Unavailable(Exception):
    """Why an engine cannot take part."""


@dataclass(frozen=True)
class Shape:
    """What grids are made from. metric is "l2" or "ip": vectors of length 1 under l2 stand for cosine. whole: every
    component is a whole number of 0 to 255, of queries too."""

    count: int
    dim: int
    metric: str
    whole: bool = False


@dataclass(frozen=True)
class Singles:
    """Queries asked one at a time. call(i) asks the i-th and returns whatever it gets at no extra cost;
    decode turns what the calls for `asked` returned into ids [len(asked)][k]."""

    call: Callable[[int], Any]
    decode: Callable[[Sequence[int], list[Any]], NDArray[np.int64]]


class Engine(abc.ABC):
    """An index of one engine: built and saved by one process, loaded and asked by another.

    The order is build, save or load; threads; prepare; then batch and singles, any number of times.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""  # as pip knows it; "" for what comes with us
    family: ClassVar[str]  # "ivf", "graph" or "exact"
    native_loop: ClassVar[bool] = False  # on one thread a batch is its own native loop over single queries

    @classmethod
    def version(cls) -> str:
        """Raises Unavailable where the engine cannot be used here."""
        try:
            return importlib.metadata.version(cls.package)
        except importlib.metadata.PackageNotFoundError as error:
            raise Unavailable(f"{cls.package} is not installed") from error

    @classmethod
    @abc.abstractmethod
    def builds(cls, shape: Shape) -> list[Params]:
        """The grid of indexes, the most promising first."""

    @classmethod
    @abc.abstractmethod
    def settings(cls, shape: Shape, build: Params) -> list[Params]:
        """The grid of searches over one index, from cheap to dear."""

    @classmethod
    @abc.abstractmethod
    def tiny(cls, vectors: NDArray[np.float32], metric: str) -> Engine:
        """An index of a few vectors behind the same call, to measure what a call costs that finds nothing to do."""

    @abc.abstractmethod
    def build(self, base: NDArray[np.float32], metric: str, params: Params, threads: int) -> None: ...

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Into an empty folder."""

    @abc.abstractmethod
    def load(self, folder: Path, shape: Shape, params: Params) -> None: ...

    @abc.abstractmethod
    def threads(self, count: int) -> None:
        """How many the next searches use."""

    @abc.abstractmethod
    def prepare(self, setting: Params) -> None:
        """Sets what the next searches use."""

    @abc.abstractmethod
    def batch(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """ids [n][k]; -1 where there are fewer."""

    def batches(self, queries: NDArray[np.float32], k: int, size: int) -> Singles:
        """The same in batches of `size`, the last one shorter: what can be made ready beforehand is."""
        parts = [queries[at : at + size] for at in range(0, len(queries), size)]
        return Singles(lambda i: self.batch(parts[i], k), lambda asked, answers: np.concatenate(answers))

    @abc.abstractmethod
    def singles(self, queries: NDArray[np.float32], k: int) -> Singles: ...

    def facts(self) -> Params:
        """What else a reader should know of the index, such as bytes of codes; may be empty."""
        return {}

    def close(self) -> None:  # noqa: B027 - most engines free their memory when they are collected
        """Frees what collecting the object would not."""


def ladder(low: int, high: int, steps: Sequence[float] = (1, 1.5)) -> list[int]:
    """Whole numbers from low to high: low, its doubles, and what `steps` put between: 4, 6, 8, 12, 16 ..."""
    values = set()
    rung = low
    while rung <= high:
        values |= {round(rung * s) for s in steps if rung * s <= high}
        rung *= 2
    return sorted(values)


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """ids [1][k] of one query after another as [n][k]."""
    return np.concatenate(parts).astype(np.int64)


FINE = (1, 1.2, 1.4, 1.7)
"""Steps for engines that have a single number to turn."""


def lists_for(count: int, share: float = 1.0) -> int:
    """A power of two near share * sqrt(count), and few enough to be trained: at least 39 vectors a list."""
    return _lists_near(share * count**0.5, count)


def lists_of(count: int, rows: int) -> int:
    """A power of two so that a list has about so many rows of count, with the same bound."""
    return _lists_near(count / rows, count)


def _lists_near(wanted: float, count: int) -> int:
    return 1 << min(round(np.log2(max(wanted, 1))), int(np.log2(max(count / 39, 1))))
