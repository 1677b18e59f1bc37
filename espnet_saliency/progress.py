"""One line that tells somebody who waits how far the work is, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from typing import TextIO


def duration(seconds: float) -> str:
    """`seconds` as people say it: 8 s, 2 min 05 s, 1 h 10 min."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def say(line: str) -> None:
    """Print a line at once and whole: `print` writes its line end apart, and threads get between."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Progress:
    """Utterances done, rate and time left.

    On a terminal the line is redrawn in place; in a file or a pipe a new line is written every
    `every` seconds, so that a log stays readable.

    Args:
        label: what is being done, e.g. "formatting audio".
        total: how many units there are; 0 or None where that is not known.
        unit: what is counted, in the plural, e.g. "utterances".
        stream: where the line goes (standard output by default).
        every: seconds between lines where the stream is no terminal.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        unit: str = "utterances",
        stream: TextIO | None = None,
        every: float = 10.0,
    ):
        self.label, self.total, self.unit = label, total or None, unit
        self.done = 0
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._every = 0.2 if self._live else every
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1) -> None:
        """Count `n` more units, and redraw the line where it is due."""
        self.done += n
        now = time.monotonic()
        if self.done and now - self._last >= self._every:
            self._last = now
            self._write(self.line(now))

    def line(self, now: float | None = None) -> str:
        """The line as it stands."""
        seconds = max((now or time.monotonic()) - self._start, 1e-9)
        rate = self.done / seconds
        text = f"  {self.label}: {self.done}"
        if self.total:
            text += f" of {self.total}"
        text += f" {self.unit}, {rate:.1f} a second"
        if self.total and rate > 0 and self.done < self.total:
            text += f", {duration((self.total - self.done) / rate)} left"
        return text

    def _write(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind, value, trace) -> None:
        if kind is None:
            seconds = time.monotonic() - self._start
            self._write(f"  {self.label}: {self.done} {self.unit} in {duration(seconds)}")
        if self._live:
            self._stream.write("\n")
            self._stream.flush()
