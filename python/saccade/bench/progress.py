"""How far a long job is, how fast it goes and how long it will take: on a terminal in one line, else in a line a
minute."""

from __future__ import annotations

import sys
import time

TERMINAL_SECONDS, LINE_SECONDS = 0.2, 60.0  # between two shows


class Progress:
    """what: is done to `total` things, `done` of which are done already."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self._what, self._total, self._before = what, total, done
        self._began = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Says so where it is time to, and of the last one always."""
        now, last = time.monotonic(), done >= self._total
        if not last and now - self._shown < (TERMINAL_SECONDS if self._terminal else LINE_SECONDS):
            return
        self._shown = now
        rate = (done - self._before) / max(now - self._began, 1e-9)
        words = f"{self._what} {done:,}/{self._total:,}, {rate:,.0f}/s"
        words += f", {seconds((self._total - done) / rate)} left" if rate and not last else ""
        # \x1b[K: what a longer line left behind goes
        print(f"\r{words}\x1b[K" if self._terminal else words, end="" if self._terminal and not last else "\n",
              file=sys.stderr, flush=True)  # fmt: skip


def seconds(count: float) -> str:
    """5,400 s as people say it: "90 min"."""
    return f"{count:.0f} s" if count < 120 else f"{count / 60:.0f} min" if count < 7200 else f"{count / 3600:.1f} h"
