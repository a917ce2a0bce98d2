"""Whether a picture lies on its side is told as the decoder turns it."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs import picture
from PIL import Image

from infinity_mm.media.decode import decode_image
from infinity_mm.media.probe import probe
from infinity_mm.media.turned import is_on_its_side, turned

FORMS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF"}


def turned_picture(form: str, orientation: int, **more: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    picture(1, (40, 24)).save(buffer, FORMS[form], exif=exif, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_picture(form: str, orientation: int) -> None:
    data = turned_picture(form, orientation)
    found = turned(data, form, True)
    assert found is not None
    header = probe(data)
    size = (header.height, header.width)
    assert decode_image(data).pixels.shape[:2] == (size[::-1] if is_on_its_side(found) else size)
    assert is_on_its_side(found) == (orientation >= 5)


@pytest.mark.parametrize("form", FORMS)
def test_without_exif_it_is_upright(form: str) -> None:
    buffer = io.BytesIO()
    picture(1, (40, 24)).save(buffer, FORMS[form])
    assert turned(buffer.getvalue(), form, True) == 1
    assert turned(b"", "gif", False) == 1


@given(st.sampled_from(sorted(FORMS)), st.integers(0, 400))
def test_the_beginning_tells_it_or_asks_for_more(form: str, length: int) -> None:
    data = turned_picture(form, 6)
    assert turned(data[:length], form, False) in (6, None)
    assert turned(data[:length], form, True) in (1, 6)


@given(st.sampled_from(sorted(FORMS)), st.binary(max_size=60), st.data())
def test_no_bytes_raise(form: str, noise: bytes, draw: st.DataObject) -> None:
    data = bytearray(turned_picture(form, 8))
    at = draw.draw(st.integers(0, 60))
    data[at : at + len(noise)] = noise
    assert turned(bytes(data), form, True) in range(1, 9)
