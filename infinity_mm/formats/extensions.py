"""File extensions of media, both ways. What a file is gets decided by its bytes, elsewhere."""

IMAGES = "jpg jpeg png webp gif bmp tif tiff avif heic heif jxl jp2 ppm pgm pbm ico tga svg img"
VIDEOS = "mp4 webm mkv avi mov m4v mpg mpeg flv wmv 3gp ogv vid"
EXTENSIONS = dict.fromkeys(IMAGES.split(" "), "image") | dict.fromkeys(VIDEOS.split(" "), "video")
USUAL = {"jpeg": "jpg", "tif": "tiff", "matroska": "mkv", "quicktime": "mov"}


def extension(kind: str, format: str) -> str:
    """The extension for a medium; one that says only the kind where the format has none of its kind."""
    name = USUAL.get(format.lower(), format.lower())
    return name if EXTENSIONS.get(name) == kind else {"image": "img", "video": "vid"}[kind]
