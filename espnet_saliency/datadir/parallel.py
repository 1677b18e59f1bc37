"""Many small pieces of work at once, with results in the order of the work."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Callable, Iterable, Iterator, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    nj: int = 1,
    executor: Executor | None = None,
) -> Iterator[Result]:
    """Yield function(task) for each task, in the order of the tasks, `nj` of them at a time.

    Tasks are taken as they are needed, a few ahead, so that neither tasks nor results pile up.

    Threads do the work, not processes: decoding, resampling and encoding run in libraries that let
    go of the interpreter's lock, and threads start at once, import nothing again and leave nothing
    behind when the program is killed. On two cores they were as fast as processes.

    Args:
        function: the work; of module level where `executor` runs it in other processes.
        tasks: its arguments.
        nj: pieces at a time.
        executor: does the work in place of threads here (a pool of processes, a cluster).
    """
    if executor is None and nj == 1:
        yield from map(function, tasks)
        return
    pool = executor or ThreadPoolExecutor(max_workers=nj)
    pending = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(function, task))
            if len(pending) >= 4 * nj:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        if executor is None:
            pool.shutdown()


@contextmanager
def muted_stderr() -> Iterator[None]:
    """Nothing is written to standard error within: mp3 decoding prints there about broken files.

    What is wrong with a file comes back as a Rejection; the decoder's own remarks, written by C
    code past sys.stderr, would tear up the line of progress.
    """
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
