"""The configuration names what is wrong and what to do."""

import pytest
from pydantic import ValidationError

from infinity_mm.scenes import ScenesConfig, make_scenes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count"),
        ({"defects": 1.5}, "defects"),
        ({"size": 60}, "size"),
        ({"kinds": ("colours",)}, "choose from"),
        ({"video_share": 0.6, "text_only_share": 0.6}, "lower them"),
        ({"kinds": ("relation",), "max_objects": 1}, "max_objects"),
        ({"number": 3}, "number"),
    ],
)
def test_wrong_values_are_named(tmp_path, wrong, message):
    with pytest.raises(ValidationError, match=message):
        ScenesConfig(**{"out": tmp_path, "count": 1, **wrong})


def test_every_field_says_what_it_is():
    assert all(field.description for field in ScenesConfig.model_fields.values())


def test_kinds_and_shares_choose_the_curriculum(tmp_path):
    config = ScenesConfig(
        out=tmp_path / "out",
        count=30,
        kinds=("caption", "colour"),
        max_objects=1,
        multi_turn_share=0,
        multi_image_share=0,
        video_share=0,
        text_only_share=0,
        chinese_share=0,
        png_share=0,
    )
    summary = make_scenes(config)
    assert set(summary["kind"]) == {"caption", "colour"}
    assert summary["language"] == {"en": 30} and summary["medium"] == {"image": 30}
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize("objects", [1, 9])
def test_other_sizes_and_numbers_of_objects(tmp_path, objects):
    config = ScenesConfig(out=tmp_path / "out", count=40, size=96, max_objects=objects, defects=0.5)
    assert make_scenes(config)["records"] == 40


def test_everything_defective_still_ends(tmp_path):
    summary = make_scenes(ScenesConfig(out=tmp_path / "out", count=30, defects=1.0))
    assert sum(summary["defect"].values()) == 30
