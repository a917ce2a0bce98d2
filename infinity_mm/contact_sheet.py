"""Many pictures on one, each with its caption below. Time and memory grow with the sheet's pixels."""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEAST = 160  # pixels of a picture's longer side on the sheet; small ones are enlarged by whole numbers
LINES = 3  # of a caption at most
GAP, LETTER = 8, 12  # pixels
PAPER, INK = (255, 255, 255), (30, 30, 35)


def contact_sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int | None = None
) -> Image.Image:
    """Pictures, uint8 [H, W, 3] each, row by row; about as many columns as rows unless told."""
    columns = columns or ceil(sqrt(len(pictures)))
    images = [_enlarged(Image.fromarray(picture)) for picture in pictures]
    wide, high = max(image.width for image in images), max(image.height for image in images)
    font = ImageFont.load_default(LETTER)
    lines = [_lines(caption, wide, font) for caption in captions]
    below = (LETTER + 3) * max(map(len, lines))
    rows = ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (wide + GAP) + GAP, rows * (high + below + 2 * GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (image, said) in enumerate(zip(images, lines, strict=True)):
        row, column = divmod(number, columns)
        x, y = GAP + column * (wide + GAP), GAP + row * (high + below + 2 * GAP)
        sheet.paste(image, (x + (wide - image.width) // 2, y))
        for place, line in enumerate(said):
            pen.text((x, y + high + 4 + place * (LETTER + 3)), line, font=font, fill=INK)
    return sheet


def _enlarged(image: Image.Image) -> Image.Image:
    times = max(1, round(LEAST / max(image.size)))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _lines(text: str, wide: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The text in lines of a width; what is too long ends in dots."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > wide:
            lines.append(word)
        else:
            lines[-1] = longer
    cut = lines[:LINES]
    if len(lines) > LINES:
        cut[-1] += " …"
    for place, line in enumerate(cut):
        while len(line) > 1 and font.getlength(line) > wide:
            line = line[:-2] + "…"
        cut[place] = line
    return cut
