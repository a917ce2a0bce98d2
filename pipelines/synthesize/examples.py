"""Examples of a type of question: labelled seed questions with their pictures, as `imm types` left them.

Memory: up to MOST examples of each type and language; the files of the pictures read last.
"""

import json
from collections import OrderedDict, defaultdict
from pathlib import Path

from infinity_mm.engines.base import Picture
from infinity_mm.media.index import Library, Unavailable
from pipelines.synthesize.drawing import generator
from pipelines.synthesize.pairs import Pair
from pipelines.types.stage import examples_of

MOST = 64
FILES = 256


class Examples:
    """Draws `count` examples of a pair's type and language, none about its own picture."""

    def __init__(self, table: Path, library: Library, count: int, seed: int) -> None:
        """Raises ValueError for a table without its labelled questions."""
        self.library, self.count, self.seed = library, count, seed
        self._of: defaultdict[tuple[str, str], list[tuple[bytes, str]]] = defaultdict(list)
        self._files: OrderedDict[bytes, Picture | None] = OrderedDict()
        path = examples_of(table)
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                some = self._of[row["type"], row["lang"]]
                if len(some) < MOST:
                    some.append((bytes.fromhex(row["media_id"]), row["question"]))
        except FileNotFoundError:
            raise ValueError(f"no examples {path}: make the table again with `imm types`") from None
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} is no file of examples: {error}; make it again") from None

    def draw(self, pair: Pair) -> list[tuple[Picture, str]]:
        """A picture and its question each; fewer where there are not as many, or pictures are gone."""
        some = self._of.get((pair.kind.id, pair.image.lang), [])
        rng = generator(self.seed, pair.image.medium, f"examples {pair.number}")
        found: list[tuple[Picture, str]] = []
        for at in rng.permutation(len(some)).tolist():
            medium, question = some[at]
            picture = self._picture(medium) if medium != pair.image.medium else None
            if picture is not None:
                found.append((picture, question))
            if len(found) == self.count:
                break
        return found

    def _picture(self, medium: bytes) -> Picture | None:
        if medium not in self._files:
            try:
                self._files[medium] = Picture(medium.hex(), self.library.read(medium))
            except Unavailable:
                self._files[medium] = None
            if len(self._files) > FILES:
                self._files.popitem(last=False)
        return self._files[medium]
