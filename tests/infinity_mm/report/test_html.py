from infinity_mm.report.html import Html, escape, join, said, tag


def test_markup_in_text_and_attributes_becomes_text() -> None:
    made = tag("p", "<b>&", title="\">'<")
    assert made == '<p title="&quot;&gt;&#39;&lt;">&lt;b&gt;&amp;</p>'


def test_html_is_taken_as_it_is_and_none_is_left_out() -> None:
    assert join(Html("<b>"), None, ["<", [Html("</b>"), "x"]]) == "<b>&lt;</b>x"
    assert (
        tag("i", cls="key", title=None, aria_label="a", width=3)
        == '<i class="key" aria-label="a" width="3"></i>'
    )


def test_void_elements_have_no_end() -> None:
    assert tag("img", src="data:") == '<img src="data:">'


def test_control_and_turning_characters_are_shown_by_name() -> None:
    assert escape("\x00\x1b\r\x7f\x85") == "␀␛␍␡‹U+0085›"
    assert escape("a\u202eb\u2066\u200f\u2028") == "a‹U+202E›b‹U+2066›‹U+200F›‹U+2028›"
    assert escape("\ud800x") == "\ufffdx"
    assert escape("tab\tline\nemoji 👩‍🔬 名") == "tab\tline\nemoji 👩‍🔬 名"


def test_long_text_is_cut_and_says_by_how_much() -> None:
    assert "… 12,345 characters more" in said("x" * 12_350, 5)
    assert "… 1 character more" in said("abc", 2)
    assert said("abc", 3) == "<bdi>abc</bdi>"
    assert said("<<<<", 2).startswith("<bdi>&lt;&lt;</bdi>")  # cut before escaping, so no entity is halved
