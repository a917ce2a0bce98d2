"""The small tokenizer: nothing is lost, special tokens stand apart, its command makes the shipped file."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from infinity_mm.models import tokenizer as small
from infinity_mm.models.tokenizer import (
    BOS,
    EOS,
    FILE,
    IM_END,
    IM_START,
    IMAGE,
    PAD,
    RESERVED,
    SIZE,
    SPECIAL,
    decode,
    encode,
    encode_padded,
)  # fmt: skip
from infinity_mm.scenes import chinese, english
from infinity_mm.scenes.world import LETTERS
from trainers.tokenizer import train


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    assert decode(encode(text)) == text


@given(st.lists(st.sampled_from([*SPECIAL, " ", "a", "图", "\n", "<", "|>"])).map("".join))
def test_a_text_that_spells_a_special_token_has_none(text: str) -> None:
    ids = encode(text)
    assert decode(ids) == text
    assert all(i >= len(SPECIAL) for i in ids)


def test_what_is_in_it() -> None:
    found = small.tokenizer()
    assert found.get_vocab_size() == SIZE == 4096
    named = ("<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<image>")
    assert [found.token_to_id(name) for name in named] == [PAD, BOS, EOS, IM_START, IM_END, IMAGE]
    assert [found.token_to_id(f"<|reserved_{i}|>") for i in range(RESERVED)] == list(range(6, 6 + RESERVED))


def test_words_of_scenes_are_one_token() -> None:
    for word in (*english.WORDS.values(), *english.NUMBERS, *english.MOVES.values()):
        assert len(encode(f" {word}")) == len(word.split()), word
    for word in (*chinese.WORDS.values(), *chinese.NUMBERS):
        assert len(encode(word)) == 1, word
    assert len(encode("图中有两个红色的小圆形和一个蓝色的大五角星。")) == 14


def test_signs_and_numbers_are_read_character_by_character() -> None:
    assert len(encode(LETTERS)) == len(LETTERS)
    assert encode("12") == encode("1") + encode("2")
    assert len(encode("The")) == 1


def test_common_words_do_not_fall_apart() -> None:
    assert len(encode("A man is riding a bicycle along the street near the beach.")) <= 14
    assert len(encode("一个男人在街道上骑自行车。")) <= 10


def test_padded() -> None:
    rows = encode_padded(["a", "a " * 50, ""], 8)
    assert rows.shape == (3, 8)
    assert rows[0].tolist() == [BOS, *encode("a"), EOS, PAD, PAD, PAD, PAD, PAD]
    assert (rows[1, 0], rows[1, -1]) == (BOS, EOS)
    assert rows[2, :3].tolist() == [BOS, EOS, PAD]


def test_the_command_makes_the_file_that_ships(tmp_path: Path) -> None:
    assert train(tmp_path / "tokenizer.json") == SIZE
    assert (tmp_path / "tokenizer.json").read_bytes() == FILE.read_bytes()
