"""Another tone: which changes of it are forgiven, and what stays another picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from infinity_mm.media.decode import decode_image
from infinity_mm.media.photometry import MIN_SIDE, working
from infinity_mm.media.thumbnail import MARGIN, alike, coarse, coarsely_alike, thumbnail
from infinity_mm.media.tone import DRAWN, is_pale, tonal, toned_alike


def seen(image: Image.Image, quality: int = 90) -> np.ndarray:
    """uint8 [1, SIZE]."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    found = decode_image(out.getvalue(), min_side=MIN_SIDE, channels=4)
    return np.frombuffer(thumbnail(working(found.pixels), min(found.width, found.height)), np.uint8)[None]


def toned(one: Image.Image, other: Image.Image) -> bool:
    found = [bool(toned_alike(*pair)[0]) for pair in ((seen(one), seen(other)), (seen(other), seen(one)))]
    assert found[0] == found[1]
    return found[0]


def landscape(seed: int = 0, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Coloured hills of chance under a sky that is next to white."""
    draw = np.random.default_rng(seed)
    hills = Image.fromarray(draw.integers(20, 180, (8, 12, 3), np.uint8)).resize(
        (320, 120), Image.Resampling.BICUBIC
    )
    sky = np.linspace((170, 190, 215), (215, 220, 235), 120)[:, None].repeat(320, axis=1)
    both = np.concatenate([sky.astype(np.uint8), np.asarray(hills)])
    return Image.fromarray(both).resize(size, Image.Resampling.LANCZOS)


def brighter(image: Image.Image, times: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(times)


def steeper(image: Image.Image, times: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(times)


ONE = landscape()
TONES = {
    "brighter": brighter(ONE, 1.3),
    "much brighter": brighter(ONE, 1.5),
    "darker": brighter(ONE, 0.7),
    "more contrast": steeper(ONE, 1.3),
    "less contrast": steeper(ONE, 0.7),
    "gray": ONE.convert("L"),
    "gray and brighter": brighter(ONE.convert("L"), 1.3),
    "half and brighter": brighter(ONE.resize((160, 120)), 1.3),
}


@pytest.mark.parametrize("name", TONES)
def test_a_change_of_tone_is_forgiven(name: str) -> None:
    other = TONES[name]
    cells = seen(ONE), seen(other)
    second = bool(coarsely_alike(*map(coarse, cells))[0] and alike(*cells)[0])
    assert not second and toned(ONE, other)


def test_another_picture_stays_another() -> None:
    for other in (
        landscape(1),
        ONE.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        Image.new("RGB", (320, 240), "gray"),
    ):
        for change in (
            lambda image: image,
            lambda image: brighter(image, 1.3),
            lambda image: image.convert("L"),
        ):
            assert not toned(ONE, change(other))
    white = brighter(ONE, 20)  # blown all over: nothing is left to agree
    assert not toned(ONE, white) and not toned(landscape(1), white)


def test_a_change_that_is_none_of_tone_is_not_forgiven() -> None:
    colours = np.asarray(ONE)
    marked = brighter(ONE, 1.3)
    ImageDraw.Draw(marked).rectangle([40, 190, 80, 200], "white")
    inverted, swapped = (
        Image.fromarray(255 - colours),
        Image.fromarray(np.ascontiguousarray(colours[..., ::-1])),
    )
    faint, shifted = (
        steeper(ONE, 0.3),
        Image.fromarray(np.clip(colours.astype(int) + 60, 0, 255).astype(np.uint8)),
    )
    for other in (marked, inverted, swapped, faint, shifted):
        assert not toned(ONE, other)


def test_colours_of_one_lightness_are_told_apart_and_blank_is_no_evidence() -> None:
    plain = {name: Image.new("RGB", (300, 200), name) for name in ("black", "white", "red", "blue", "gray")}
    for one in plain.values():
        for other in plain.values():
            assert not toned(one, other)
    drawn = {}
    for name in ("red", "blue", (76, 76, 76), (210, 30, 30)):
        drawn[name] = Image.new("RGB", (300, 200), "white")
        ImageDraw.Draw(drawn[name]).ellipse([60, 40, 200, 160], name)
    assert not toned(drawn["red"], drawn["blue"])
    assert not toned(brighter(drawn["red"], 0.8), drawn["blue"])


def test_noise_is_no_evidence() -> None:
    draw = np.random.default_rng(0)
    pages = [np.clip(draw.normal(level, 6, (240, 320)), 0, 255) for level in (190, 205)]
    one, other = (Image.fromarray(page.astype(np.uint8)) for page in pages)
    assert toned(one, brighter(one, 1.05)) and not toned(one, other)


def test_real_photographs_with_much_sky_are_found_brighter(shared_data: Path) -> None:
    found = []
    for path in (
        path for name in ("imagenet", "cc12m") for path in (shared_data / name / "images").iterdir()
    ):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if is_pale(np.asarray(image.convert("L"))):
            found += [toned(image, brighter(image, times)) for times in (1.3, 1.5)]
    assert len(found) > 50 and sum(found) >= 0.65 * len(found)


def test_another_total_on_a_receipt_is_another_in_every_tone() -> None:
    pages = []
    for total in ("14.95", "27.30"):
        page = Image.new("RGB", (420, 640), (225, 220, 210))
        font = ImageFont.load_default(36)
        for i, line in enumerate(("CITY STORES LTD", "Tea   3.20", f"TOTAL {total}", "THANK YOU")):
            ImageDraw.Draw(page).text((30, 30 + 140 * i), line, (30, 40, 60), font)
        pages.append(page)
    for change in (lambda page: page, lambda page: brighter(page, 1.2), lambda page: page.convert("L")):
        assert toned(pages[0], change(pages[0])) and not toned(pages[0], change(pages[1]))


def test_gray_is_forgiven_only_where_all_cells_are_compared() -> None:
    small = landscape(size=(128, 100))
    assert toned(small, brighter(small, 1.3)) and not toned(small, small.convert("L"))
    tiny = landscape(size=(80, 60))
    assert not toned(tiny, brighter(tiny, 1.3))


def test_many_are_compared_as_each_alone() -> None:
    pictures = [*TONES.values(), *(landscape(seed, (40 * seed, 30 * seed)) for seed in range(2, 14))]
    cells = np.concatenate([seen(picture) for picture in pictures])
    one, other = (grid.ravel() for grid in np.meshgrid(*(np.arange(len(cells)),) * 2))
    together = toned_alike(cells[one], cells[other])
    each = [bool(toned_alike(cells[i : i + 1], cells[j : j + 1])[0]) for i, j in zip(one, other, strict=True)]
    assert together.tolist() == each and 0 < sum(each) < len(each)
    assert toned_alike(cells[:0], cells[:0]).tolist() == []


def test_where_it_may_be_asked() -> None:
    drawn, margin = (0, DRAWN - 0.01, DRAWN, 0), (MARGIN, 9, 9, MARGIN - 0.01)
    assert tonal(drawn, margin).tolist() == [True, True, False, False]
    pale, dark = (np.asarray(brighter(ONE, times).convert("L")) for times in (1.15, 0.7))
    assert is_pale(pale) and not is_pale(dark)
