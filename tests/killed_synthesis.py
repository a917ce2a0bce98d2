"""`imm synthesize` by an engine that kills its own process: a script.

    python killed_synthesis.py STORE NAME ASKED.txt DIES_AFTER

ASKED: gets the key of each request as it is answered. After DIES_AFTER of them the process ends by SIGKILL.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from talking import Scripted

from infinity_mm.engines.base import ENGINES, Answer, Request
from pipelines.synthesize import replies
from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.stage import run

FLUSH = 16  # answers that a kill may cost


class Killing(Scripted):
    """Says which requests it answered, and kills the process after so many."""

    def __init__(self, asked: Path, dies_after: int) -> None:
        super().__init__(bad=0.2, seed=21)
        self.file, self.left = asked.open("a"), dies_after

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for place, answer in super().ask(requests):
            self.file.write(f"{requests[place].key}\n")
            self.file.flush()
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            yield place, answer


def main(store: str, name: str, asked: Path, dies_after: int) -> None:
    replies.FLUSH = FLUSH
    ENGINES["scripted"] = lambda rest, device, options: Killing(asked, dies_after)
    told = {"prompts": "scenes", "types": "scenes", "engine": "scripted", "blind": "gray"}
    run(SynthesizeConfig(store=store, manifest="raw", out=name, **told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
