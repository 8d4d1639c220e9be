"""The training loop: epochs cut into runs of mini-batches, so that Python is heard from now and then.

The engine computes; the loop brings the order of the examples and the step sizes, and looks after everything around
them. Where a run ends depends on the clock, and changes no bit of the result.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbp.engines import Engine
from fastbp.errors import DivergenceError, divergence_advice

# Seconds a compiled run should take: long against its overhead (tens of microseconds), short for Ctrl-C and progress.
RUN_SECONDS = 0.1


class Trainer:
    """Runs epochs on one engine. `decay` is λ/n."""

    def __init__(self, engine: Engine, batch_size: int, decay: float = 0.0) -> None:
        self.engine, self.batch_size, self.decay = engine, batch_size, decay
        # Mini-batches of this epoch that the engine has behind it; None while some are under way.
        self.done: int | None = 0
        self._run_length = 1  # mini-batches in the next run; doubled or cut as the clock says

    def run_epoch(
        self,
        epoch: int,
        order: np.ndarray,
        eta: float | np.ndarray,
        *,
        first: int = 0,
        step: int = 0,
        due: Callable[[], int | None] | None = None,
        on_run: Callable[[int, float], None] | None = None,
    ) -> None:
        """The mini-batches of one epoch, from number `first` on; `step` is the number of the epoch's first in the run.

        eta: the step size, or those of all mini-batches of the epoch, (⌈n/m⌉,). due: asked before each run of
        mini-batches for the number of one before which the run must end. on_run: told after each run how many
        mini-batches of the epoch are done, and the seconds the run took.

        Raises DivergenceError as soon as a run leaves a parameter that is not finite; the engine then holds the
        parameters before the mini-batch that did it.
        """
        n_batches, start = -(-len(order) // self.batch_size), first
        etas = np.broadcast_to(np.asarray(eta, np.float64), (n_batches,))
        while start < n_batches:
            stop = min(start + self._run_length, n_batches, (due and due()) or n_batches)
            before = self.engine.save_state()
            began = time.perf_counter()
            self._train(order, etas, start, stop, before, step)
            seconds = time.perf_counter() - began
            if not self.engine.is_finite():
                self._diverged(before, epoch, order, etas, start, stop, step)
            start = stop
            if on_run is not None:
                on_run(stop, seconds)
            if seconds > RUN_SECONDS:
                self._run_length = max(1, self._run_length // 2)
            elif seconds < RUN_SECONDS / 2:
                self._run_length *= 2

    def _train(self, order: np.ndarray, etas: np.ndarray, start: int, stop: int, before: Any, step: int) -> None:
        """Run mini-batches start … stop - 1 as a whole: whatever cuts them short, the engine is back at `before`."""
        rows = order[start * self.batch_size : stop * self.batch_size]
        self.done = None
        try:
            with np.errstate(all="ignore"):  # a divergence is said once, by DivergenceError
                self.engine.train(rows, etas[start:stop], self.decay, step + start)
            self.done = stop
        except BaseException:  # Ctrl-C, say, between the steps of two layers
            self.done = None
            self.engine.restore_state(before)
            self.done = start
            raise

    def _diverged(
        self, before: Any, epoch: int, order: np.ndarray, etas: np.ndarray, start: int, stop: int, step: int
    ) -> None:
        """Run again from the last good state, one mini-batch at a time, to the one that did it."""
        self.engine.restore_state(before)
        for batch in range(start, stop):
            state = self.engine.save_state()
            self._train(order, etas, batch, batch + 1, state, step)
            if not self.engine.is_finite():
                self.engine.restore_state(state)
                raise DivergenceError(epoch, batch, divergence_advice(float(etas[batch])))
        # A user's own function that is not the same twice leads here: all is finite now, and the run is done.
