"""The closed set of reasons for which a medium is refused."""

MEDIA_ERRORS: dict[str, str] = {
    "empty": "there are no bytes",
    "zeroed": "every byte is NUL",
    "html": "a web page, as a server sends it in place of a file that is gone",
    "not_an_image": "another kind of file: text, an archive, a video …",
    "not_a_video": "another kind of file: text, an archive, an image …",
    "no_video_stream": "a video container without pictures",
    "unsupported": "the format is known but no decoder here reads it, or not this variant of it",
    "zero_size": "width or height is 0",
    "bomb": "more pixels than allowed, or decompressed data out of proportion",
    "truncated": "the file ends early",
    "corrupt": "damaged: a bad checksum, bad codes, a structure that contradicts itself",
}


class MediaError(ValueError):
    """A medium that is refused: `code` is a key of MEDIA_ERRORS, `detail` says what was found."""

    def __init__(self, code: str, detail: str) -> None:
        assert code in MEDIA_ERRORS, code
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"
