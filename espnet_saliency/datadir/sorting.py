"""Sorting what does not fit in memory."""

from __future__ import annotations

import heapq
import pickle
import tempfile
from pathlib import Path
from typing import IO, Any, Callable, Generic, Iterator, TypeVar

Record = TypeVar("Record")

# Records that are written and read back at once.
_BLOCK = 1024


class ExternalSort(Generic[Record]):
    """Collects records and iterates over them in order, with at most `limit` of them in memory.

    The order is that of a stable sort of all records. Runs beyond `limit` go to anonymous files,
    which vanish with the process however it ends.

    Args:
        key: what is compared.
        folder: where the runs go; the disk that holds the result has room for them.
        limit: records that are kept in memory.
    """

    def __init__(self, key: Callable[[Record], Any], folder: Path, limit: int = 32_768):
        self._key, self._folder, self._limit = key, folder, limit
        self._last: list[Record] = []
        self._runs: list[IO[bytes]] = []
        self._count = 0

    def add(self, record: Record) -> None:
        """Take one more record."""
        self._last.append(record)
        self._count += 1
        if len(self._last) >= self._limit:
            self._spill()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        # A generator of its own, so that the runs stay open as long as they are read.
        self._last.sort(key=self._key)
        yield from heapq.merge(*map(_read, self._runs), self._last, key=self._key)

    def __del__(self) -> None:
        for run in self._runs:
            run.close()

    def _spill(self) -> None:
        self._last.sort(key=self._key)
        run = tempfile.TemporaryFile(dir=self._folder)
        for start in range(0, len(self._last), _BLOCK):
            pickle.dump(self._last[start : start + _BLOCK], run, pickle.HIGHEST_PROTOCOL)
        self._runs.append(run)
        self._last = []


def _read(run: IO[bytes]) -> Iterator[Any]:
    run.seek(0)
    while True:
        try:
            block = pickle.load(run)
        except EOFError:
            return
        yield from block
