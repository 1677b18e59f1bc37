"""Where ESPnet's programs run: in processes of their own, each with a log, one line of progress here.

Importing ESPnet takes seconds. A fork server imports it once and every program starts as a fork of
it; a training on several GPUs or machines starts as a new interpreter instead, since ESPnet spawns
its workers from it. Either way the program is `python -m espnet_saliency -m <module> <arguments>`,
and that is the first line of its log.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import Progress, duration, say

PRELOADED = ["espnet_saliency.recipe.preload"]


class JobFailed(Exception):
    """A program ended badly; the text names its log and quotes the last lines."""


@dataclass(frozen=True)
class Job:
    """One run of an ESPnet program."""

    module: str
    """e.g. espnet2.bin.asr_train; its `main(cmd)` takes the arguments."""
    arguments: tuple[str, ...]
    log: Path
    threads: int = 1
    """CPU threads of torch."""
    spawn: bool = False
    """Start a new interpreter (for programs that spawn workers of their own)."""
    prefix: tuple[str, ...] = ()
    """What starts it on other machines, e.g. srun --nodes 2; implies a new interpreter."""

    @property
    def command(self) -> str:
        """The command line that does the same by hand."""
        words = [*self.prefix, "python", "-m", "espnet_saliency", "-m", self.module, *self.arguments]
        return shlex.join(words)


def run_job(job: Job, watch: Callable[[], None] | None = None, every: float = 0.5) -> None:
    """Run `job` to its end, calling `watch` every `every` seconds.

    Raises:
        UserError: the program refused what the user gave; its own line is passed on.
        JobFailed: it failed otherwise.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "a", encoding="utf-8") as log:
        log.write(f"# {job.command}\n# started {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    process = _start(job)
    try:
        while process.poll() is None:
            if watch:
                watch()
            time.sleep(every)
        if watch:
            watch()
    finally:
        process.end()
    if process.poll() != 0:
        _explain(job, process.poll())


def call_in_fork(function: Callable, *arguments: Any, threads: int = 1) -> Any:
    """`function(*arguments)` in a fork of the server, on this console; what it returns or raises.

    For what needs ESPnet's modules but is no program of its own: here they would have to be imported
    again, and would stay in memory while the trainings run.
    """
    with ProcessPoolExecutor(1, mp_context=_server()) as pool:
        return pool.submit(_on_this_console, function, arguments, threads).result()


def _on_this_console(function: Callable, arguments: Sequence[Any], threads: int) -> Any:
    import torch

    sys.stdout.reconfigure(line_buffering=True)
    torch.set_num_threads(threads)
    return function(*arguments)


def _server() -> multiprocessing.context.BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_jobs(jobs: Sequence[Job], at_a_time: int, watch: Callable[[], None] | None = None) -> None:
    """Run several jobs, `at_a_time` of them at once; the first failure is raised after the others ended."""
    with ThreadPoolExecutor(max_workers=at_a_time) as pool:
        futures = [pool.submit(run_job, job) for job in jobs]
        while watch and not all(future.done() for future in futures):
            watch()
            time.sleep(0.5)
        for future in futures:
            future.result()


class _Interpreter:
    """A program in a new interpreter."""

    def __init__(self, job: Job):
        words = [*job.prefix, sys.executable, "-m", "espnet_saliency", "-m", job.module, *job.arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
        with open(job.log, "ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def end(self) -> None:
        if self.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()


class _Fork:
    """A program in a fork of the server that has imported ESPnet."""

    def __init__(self, job: Job):
        # Not a daemon: ESPnet's data loaders start processes of their own.
        self._process = _server().Process(
            target=_in_fork, args=(job.module, job.arguments, str(job.log), job.threads), daemon=False
        )
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def end(self) -> None:
        if self.poll() is None:
            self._process.terminate()
        self._process.join()


def _start(job: Job) -> _Interpreter | _Fork:
    return _Interpreter(job) if job.spawn or job.prefix else _Fork(job)


def _in_fork(module: str, arguments: Sequence[str], log: str, threads: int) -> None:
    _log_everything_to(log)
    _end_with_parent()
    # The server's parent may sit in a terminal: an interrupt there is for the recipe to pass on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.argv = [module, *arguments]
    # A child of a fork server would start its data loaders through one too, and import ESPnet for each.
    multiprocessing.set_start_method("fork", force=True)
    import torch

    from espnet_saliency import plugin

    torch.set_num_threads(threads)
    plugin.register()
    try:
        importlib.import_module(module).main(list(arguments))
    except UserError as error:
        print(f"error: {error}", flush=True)
        sys.exit(2)


def _log_everything_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(log, number)
    os.close(log)
    # Handlers that an import has left would keep ESPnet's basicConfig from taking effect.
    logging.getLogger().handlers.clear()


def _end_with_parent() -> None:
    """Killed without a word, the recipe must not leave a training behind that writes into its folder."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _explain(job: Job, code: int) -> None:
    lines = [line for line in _tail(job.log).splitlines() if line.strip()]
    if code == 2 and lines and lines[-1].startswith("error: "):
        raise UserError(lines[-1].removeprefix("error: "))
    end = "\n".join(f"    {line}" for line in lines[-6:])
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit status {code}"
    raise JobFailed(f"{job.module} {how}; its log, {job.log}, ends with\n{end}")


def _tail(path: Path, size: int = 20_000) -> str:
    with open(path, "rb") as handle:
        handle.seek(0, os.SEEK_END)
        handle.seek(max(0, handle.tell() - size))
        return handle.read().decode("utf-8", "replace")


class TrainingWatch:
    """Reads an ESPnet training's log and says how far it is; keeps the last whole checkpoint.

    Args:
        name: what is trained, for the line.
        log: ESPnet's log.
        folder: the experiment, where checkpoint.pth is written.
        max_epoch: the last epoch.
        criterion: the figure to show, e.g. "acc" (of "[valid] … acc=0.71").
        every: seconds between lines.
    """

    def __init__(
        self, name: str, log: Path, folder: Path, max_epoch: int, criterion: str = "loss", every: float = 15.0
    ):
        self.name, self.folder, self.max_epoch = name, folder, max_epoch
        self._log, self._every = log, every
        self._position = log.stat().st_size if log.exists() else 0
        self._started = time.monotonic()
        self._said = self._started - every
        self._first: int | None = None
        self._pattern = re.compile(
            rf"(\d+)epoch results: .*\[valid\].*?\b{re.escape(criterion)}=([-\d.e+naif]+)"
        )
        self._criterion = criterion

    def __call__(self) -> None:
        """Read what is new, and print a line where an epoch has ended and a line is due."""
        if not self._log.exists():
            return
        with open(self._log, "rb") as handle:
            handle.seek(self._position)
            new = handle.read()
        # Only whole lines: the rest is read next time.
        new = new[: new.rfind(b"\n") + 1]
        self._position += len(new)
        matches = list(self._pattern.finditer(new.decode("utf-8", "replace")))
        if not matches:
            return
        keep_checkpoint(self.folder)
        epoch, now = int(matches[-1][1]), time.monotonic()
        if self._first is None:
            self._first = int(matches[0][1]) - 1
        if now - self._said >= self._every or epoch == self.max_epoch:
            self._said = now
            each = (now - self._started) / (epoch - self._first)
            left = duration((self.max_epoch - epoch) * each)
            say(
                f"  {self.name}: epoch {epoch} of {self.max_epoch}, {each:.1f} s an epoch, "
                f"valid {self._criterion} {matches[-1][2]}, {left} left"
            )


def keep_checkpoint(folder: Path) -> None:
    """Copy checkpoint.pth, where it is whole, to checkpoint.kept.pth.

    ESPnet overwrites checkpoint.pth in place: a run that is killed in the middle of that could not
    go on.
    """
    checkpoint = folder / "checkpoint.pth"
    if _whole(checkpoint):
        with atomic_file(folder / "checkpoint.kept.pth", "wb") as copy, open(checkpoint, "rb") as source:
            shutil.copyfileobj(source, copy)


def mend_checkpoint(folder: Path) -> None:
    """Before a run goes on: put the kept checkpoint in the place of one that was cut off."""
    checkpoint, kept = folder / "checkpoint.pth", folder / "checkpoint.kept.pth"
    if checkpoint.exists() and not _whole(checkpoint):
        checkpoint.unlink()
        if _whole(kept):
            shutil.copyfile(kept, checkpoint)
            say(f"  {checkpoint} was cut off: going on from the epoch before")


def _whole(path: Path) -> bool:
    # torch.save writes a zip; its directory comes last, so a file that was cut off has none.
    return path.exists() and zipfile.is_zipfile(path)


def count_progress(label: str, total: int, count: Callable[[], int]) -> tuple[Progress, Callable[[], None]]:
    """A Progress that follows `count()`, and the watch that updates it."""
    progress = Progress(label, total)

    def watch() -> None:
        progress.advance(count() - progress.done)

    return progress, watch
