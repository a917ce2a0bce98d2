import hashlib
from pathlib import Path

import pytest
from looks import PICTURE, asked, look, values
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from pipelines.measures.tokens import ESTIMATE, TOKENS, character_counts, resolve_tokenizer


def tokenizer(folder: Path, vocabulary: dict[str, int] | None = None) -> Path:
    """A tokenizer of one token a word, that would cut and pad if it were let."""
    made = Tokenizer(WordLevel(vocabulary or {"[UNK]": 0, "a": 1, "red": 2, "ball": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.enable_truncation(4)
    made.enable_padding(length=4)
    path = folder / "tokenizer.json"
    made.save(str(path))
    return path


def test_what_is_counted() -> None:
    assert character_counts("A longest word, 42!\nрыба 红色") == (4, 1, 4, 2, 2, 2, 0, 1)
    assert character_counts("...??") == (0, 0, 0, 0, 0, 1, 4, 0)


def test_the_estimate_is_a_sum_over_what_is_counted() -> None:
    got = values(TOKENS, asked("What color?", "红色。"))
    answer = 2 * ESTIMATE.han + ESTIMATE.mark_run
    assert got["answer_tokens"] == round(answer)
    assert got["tokens"] == round(answer + 2 * ESTIMATE.word + ESTIMATE.mark_run)
    assert list(values(TOKENS, look(("user", PICTURE))).values()) == [0, 0]


PLANTS = "下列关于光合作用的叙述，正确的是：A. 叶绿素主要吸收红光和蓝紫光 B. 暗反应不需要光反应的产物。"


@pytest.mark.parametrize(
    ("text", "tokens", "within"),
    [
        # counted by Emu3.5's tokenizer
        ("A man in a checked shirt stands next to a large wooden bowl.", 14, 0.1),
        ("What was the value of the Crest brand in dollars in 2020?", 17, 0.1),
        ("图中有一个红色的小圆形，在一个蓝色的大正方形的左边。", 15, 0.25),
        (PLANTS, 37, 0.2),
    ],
)
def test_the_estimate_is_near_a_real_tokenizer(text: str, tokens: int, within: float) -> None:
    assert values(TOKENS, asked("", text))["answer_tokens"] == pytest.approx(tokens, rel=within)


def test_a_tokenizer_counts_every_turn_whole(tmp_path: Path) -> None:
    settings = resolve_tokenizer(str(tokenizer(tmp_path)))
    seen = look(
        ("system", "a a"), ("user", [PICTURE, "a red ball ?"]), ("assistant", "a red ball , a red ball")
    )
    assert values(TOKENS, seen, settings) == {"tokens": 13, "answer_tokens": 7}


def test_settings_follow_the_content(tmp_path: Path) -> None:
    path = tokenizer(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert resolve_tokenizer(str(tmp_path)) == {"_tokenizer": str(path), "tokenizer_sha256": digest}
    settings = resolve_tokenizer(str(path))
    tokenizer(tmp_path, {"[UNK]": 0, "b": 1})
    assert resolve_tokenizer(str(path))["tokenizer_sha256"] != digest
    with pytest.raises(ValueError, match="has changed since the command began"):
        TOKENS.open(settings)


def test_what_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the folder has no tokenizer\.json"):
        resolve_tokenizer(str(tmp_path))
    with pytest.raises(ValueError, match="there is no such file or folder"):
        resolve_tokenizer(str(tmp_path / "none.json"))
    other = tmp_path / "tokenizer.json"
    other.write_text("{}")
    with pytest.raises(ValueError, match=r"is not a Hugging Face tokenizer\.json"):
        TOKENS.open(resolve_tokenizer(str(other)))


def test_a_hub_that_is_not_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"no such file or folder, and the Hugging Face hub gave no"
    ) as raised:
        resolve_tokenizer("some/model")
    assert "\n" not in str(raised.value)
