import pytest

from pipelines.measures.phrases import boilerplate_in, refusal_in


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't comply with that request.",
        "I’m sorry, but I cannot identify the man on the right.",
        "I am not able to see the image you are referring to, could you describe it?",
        "As a large language model trained by OpenAI, I cannot browse the internet.",
        "As an artificial intelligence, I do\nnot have personal feelings.",
        "Hello! I'm unable to view images directly.",
        "Thank you for your question. However, I cannot provide medical advice.",
        "Can't recognize the image",
        "  Unfortunately, I don't have access to the picture.",
        "I must respectfully decline to answer.",
        "It appears that no image was uploaded.",
        "Without seeing the image, I cannot answer.",
        "This request violates my guidelines.",
        "抱歉，我不能讨论这个话题。",
        "作为一个大型语言模型，我没有视觉能力。",
        "我无法识别图片中的人物身份。",
        "您好，我无法处理该图片。",
        "很抱歉，我無法提供協助。",
        "請您上傳圖片，我才能回答。",
        "这超出了我的能力范围。",
    ],
)
def test_refusals(answer: str) -> None:
    assert refusal_in(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "No, I cannot see a red circle.",
        "A man who cannot see.",
        "I can't tell if it is a dog or a cat, but it looks like a dog.",
        "The note reads \"I'm sorry, I can't help you\".",
        "The text says: I'm sorry, I cannot come.",
        "Unfortunately, it is raining and we cannot see the mountains.",
        "There is no picture on the wall.",
        "As an artist, I do not like it.",
        "I'm sorry to hear that your dog is ill. The picture shows a healthy dog.",
        "图中没有红色的圆。",
        "我看不到任何汽车。",
        "作为一名医生，他无法休息。",
        "对不起，三个字写在卡片上。",
        "我不能确定颜色，但看起来是红色。",
        "",
    ],
)
def test_answers_that_are_none(answer: str) -> None:
    assert refusal_in(answer) is None


def test_a_refusal_is_at_the_beginning() -> None:
    refusal = "I cannot assist with that."
    assert refusal_in(f"A short word. {refusal}") == "i cannot assist"
    assert refusal_in(f"{'A long story, told at length. ' * 20}{refusal}") is None
    assert refusal_in("x" * 400 + f". {refusal}") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Well. As an AI language model, I have no eyes.", "as an ai language model, i"),
        ("Lorem ipsum dolor sit amet", "lorem ipsum"),
        ("For more, click here to read on.", "click here"),
        ("Photo © 2019 A. Person", "© 2019"),
        ("作为一个人工智能语言模型，我", "作为一个人工智能语言模型"),
        ("未经许可不得转载", "未经许可不得转载"),
        ("版權所有", "版权所有"),
    ],
)
def test_boilerplate(text: str, found: str) -> None:
    assert boilerplate_in(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "A man clicks a pen here.",
        "as an airplane lands, I wave",
        "She reads more books.",
        "点击率上升了。",
        "",
    ],
)
def test_text_without_boilerplate(text: str) -> None:
    assert boilerplate_in(text) is None
