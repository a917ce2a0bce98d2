"""Ranges of characters of scripts that are written without spaces, as parts of a regular expression's class.

None of them holds a digit, a space or a punctuation mark.
"""

HAN = r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = r"\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
THAI_LAO_KHMER_BURMESE = (
    r"\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0eae\u0eb0-\u0ecd\u0edc-\u0edf\u1780-\u17d3\u1000-\u103f"
)
