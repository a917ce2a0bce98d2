"""What a picture looks like: measures of its pixels, all from the one scaled decode that validity makes."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from infinity_mm.sidecars import Family, Measure
from pipelines.measures.medium_look import MediumLook

UPRIGHT = "EXIF orientation, 1 to 8; pictures are measured upright"
CLEANVISION = "cleanvision 0.3.7"
F32 = pa.float32()
STORED = {
    "colour_mode": Measure(pa.string(), "", "as stored: L, RGB, CMYK, P, RGBA, I;16 …"),
    "alpha": Measure(pa.bool_(), "", "whether pixels may be transparent; they are measured over white"),
    "orientation": Measure(pa.int8(), "", UPRIGHT),
}
SEEN = {
    "brightness": Measure(F32, "0 to 1", "mean luma", "ITU-R BT.601"),
    "brightness_p5": Measure(F32, "0 to 1", "5th percentile of luma: high if washed out", CLEANVISION),
    "brightness_p99": Measure(F32, "0 to 1", "99th percentile of luma: low if dark", CLEANVISION),
    "contrast": Measure(F32, "0 to 0.5", "root mean square contrast: standard deviation of luma"),
    "entropy": Measure(F32, "bits", "of the luma histogram, 0 to 8; low for blank pictures"),
    "sharpness": Measure(
        F32, "levels²", "mean square of the Laplacian of luma: low if blurred", "Pech-Pacheco et al. 2000"
    ),
    "acuity": Measure(F32, "", "sharpness over the variance of luma: low if blurred, whatever the contrast"),
    "colourfulness": Measure(F32, "", "M3: 0 is gray, 109 extremely colourful", "Hasler, Süsstrunk 2003"),
    "uniformity": Measure(F32, "share", "pixels of one tone, within 8 levels of each channel; 1 if blank"),
    "text_like": Measure(F32, "share", "area that looks like lines of text"),
    "chart_like": Measure(F32, "share", "area that looks drawn or printed, text aside"),
}


def photometric(look: MediumLook) -> Sequence[Any]:
    """The measures of PHOTOMETRY; not applicable to clips. Raises MediaError and Unavailable."""
    if look.is_video:
        return (None,) * (len(STORED) + len(SEEN))
    picture = look.picture()
    found = look.photometry()
    stored = (picture.mode, picture.has_alpha, picture.exif_orientation)
    return (*stored, *(getattr(found, name) for name in SEEN))


def open_photometry(settings: dict[str, Any]) -> Callable[[MediumLook], Sequence[Any]]:
    return photometric


PHOTOMETRY = Family(
    "photometry",
    "media",
    2,
    STORED | SEEN,
    open_photometry,
    ("pillow", "simplejpeg", "numpy"),
    "decode",
)
