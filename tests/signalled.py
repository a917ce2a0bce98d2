"""A training that signals itself."""

import os
from typing import Any

from trainers.monitor import Monitor


def signalled(at: int, number: int) -> None:
    """Let this process signal itself when a training has taken step `at`."""
    taken = Monitor.step

    def step(self: Monitor, number_of_step: int, *rest: Any) -> None:
        taken(self, number_of_step, *rest)
        if number_of_step == at and self.steps > 3:  # not in the short first stage
            os.kill(os.getpid(), number)

    Monitor.step = step  # type: ignore[method-assign]
