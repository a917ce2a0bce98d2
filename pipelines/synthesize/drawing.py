"""What is asked of a picture: types of questions and styles of answers, drawn by lot.

Styles are a function of the seed and the picture's id, so that they are the same whatever else is asked
about, in any order.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from pipelines.synthesize.config import SynthesizeConfig
from pipelines.synthesize.pairs import CAPTION, Image, Kind, Pair

CAPTION_KIND = Kind(CAPTION, {"en": "", "zh": ""})


def generator(seed: int, medium: bytes, what: str) -> np.random.Generator:
    """Random numbers of one picture, for one purpose."""
    digest = hashlib.sha256(f"{seed}:{what}:".encode() + medium).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def pairs_of(image: Image, kinds: Sequence[Kind], config: SynthesizeConfig) -> list[Pair]:
    """The pairs to be written for a picture, nothing written yet: a caption first, if any."""
    names = [name for name, weight in config.styles.items() if weight > 0]
    weights = np.array([config.styles[name] for name in names])
    rng = generator(config.seed, image.medium, "styles")
    styles = rng.choice(len(names), len(kinds), p=weights / weights.sum())
    pairs = [Pair(image, CAPTION_KIND, "detailed", 0)] if config.captions else []
    for kind, style in zip(kinds, styles.tolist(), strict=True):
        pairs.append(Pair(image, kind, names[style], len(pairs)))
    return pairs
