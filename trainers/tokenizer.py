"""Train the small tokenizer that the shipped models share.

    python -m trainers.tokenizer --out infinity_mm/models/tokenizer.json

Its texts are the project's own: what scenes say, and lists of common words (trainers/vocabulary), the
commonest first, each as often as Zipf's law has it. Chinese is cut into words before pairs are counted, so
that a token is a word and no phrase, and what a model learns of a word it knows in every phrase. Takes
seconds; the same texts give the same file.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from infinity_mm.models.tokenizer import SIZE, SPECIAL
from infinity_mm.scenes.config import IMAGE_KINDS, ScenesConfig
from infinity_mm.scenes.conversations import make_content
from infinity_mm.scenes.language import LANGUAGES
from infinity_mm.scenes.randomness import CONTENT, pick, stream

VOCABULARY = Path(__file__).with_name("vocabulary")
SEED = 20_000
RECORDS = 4000
COMMONEST = 400_000  # how often the commonest word of a list counts; the n-th counts 1 / (n + 20) of that
# A capital before a capital or digit, a digit, an English contraction, a run of letters, of marks, of spaces.
PIECES = (
    r" ?\p{Lu}(?=[\p{Lu}\d])| ?\d|'(?:s|t|re|ve|m|ll|d)(?!\p{L})| ?[^\W\d_]+"
    r"| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"
)


def scene_texts() -> Iterator[tuple[str, str]]:
    """(language, text) of every turn of some scenes."""
    config = ScenesConfig(out=Path("none"), count=RECORDS, seed=SEED)
    for index in range(RECORDS):
        rng = stream(SEED, index, CONTENT)
        medium = pick(rng, ("image", "image", "image", "images", "video", "text"))
        kind = pick(rng, ("motion", "caption")) if medium == "video" else pick(rng, tuple(IMAGE_KINDS))
        lang = pick(rng, tuple(LANGUAGES))
        for turn in make_content(config, medium, kind, lang, rng).turns:
            yield lang, turn["value"].replace("<image>", "").replace("<video>", "")


def words(name: str) -> list[str]:
    """A word list, the commonest first, each word once."""
    return list(dict.fromkeys((VOCABULARY / name).read_text(encoding="utf-8").split()))


def corpus() -> Iterator[str]:
    """What pairs are counted in."""
    chinese = words("chinese.txt")
    zh = LANGUAGES["zh"]
    known = {*chinese, *zh.WORDS.values(), *zh.MOVES.values(), *zh.CORNERS.values(), *zh.NUMBERS}
    cut = re.compile("|".join(sorted(known, key=lambda word: (-len(word), word))) + "|[ -~]+|.|\n")
    for lang, text in scene_texts():
        yield from [text] if lang == "en" else cut.findall(text)
    for place, word in enumerate(words("english.txt")):
        yield from [f" {word}"] * (COMMONEST // (place + 20) // 100)
    for place, word in enumerate(chinese):
        yield from [word] * (COMMONEST // (place + 20) // 100)


def train(out: Path) -> int:
    """Write the tokenizer; how many tokens it has."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.save(str(out))
    return int(tokenizer.get_vocab_size())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    given = parser.parse_args()
    print(f"{given.out}: {train(given.out)} tokens")


if __name__ == "__main__":
    main()
