"""The media a record names: paths, data URLs, inline bytes and refs that a container's reader found."""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from infinity_mm.formats.json_value import Bad, type_name
from infinity_mm.formats.types import Ref

MEDIA_FIELDS = ("image", "images", "video", "videos", "media_order")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
# the first characters of JPEG, PNG, GIF, WebP and BMP in base64
BARE_BASE64 = re.compile(r"(/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk0)[A-Za-z0-9+/\s]{200,}={0,2}\s*")


class RecordError(Exception):
    """Why a record cannot be held: becomes a `Reject`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.bad = Bad(reason, detail)


class Media:
    """The media of one record while it is read.

    `refs` in the record's order; `by_kind` their indexes; markers and bare parts take the next of a kind.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.refs: list[Ref] = []
        self.by_kind: dict[str, list[int]] = {"image": [], "video": []}
        self.taken = {"image": 0, "video": 0}

    def add(self, kind: str, value: Any, field: str) -> int:
        self.refs.append(ref_from(value, field, self.path))
        self.by_kind[kind].append(len(self.refs) - 1)
        return len(self.refs) - 1

    def next(self, kind: str) -> int | None:
        """The next medium of a kind that nothing named yet, or None."""
        at = self.taken[kind]
        self.taken[kind] = at + 1
        return self.by_kind[kind][at] if at < len(self.by_kind[kind]) else None

    def named(self, kind: str, value: Any, field: str) -> int:
        """The medium of a part that gives it itself.

        In a container its own members are the media, so the part takes the next; so it does where the
        record lists the same path once more.
        """
        at = self.taken[kind]
        if at < len(self.by_kind[kind]):
            listed = self.refs[self.by_kind[kind][at]]
            if listed.how not in ("file", "inline") or (listed.how == "file" and listed.name == value):
                self.taken[kind] = at + 1
                return self.by_kind[kind][at]
        self.refs.append(ref_from(value, field, self.path))
        return len(self.refs) - 1


def media_of(record: dict[str, Any], path: str) -> Media:
    """The media in a record's `image`, `images`, `video` and `videos`; images first unless it says otherwise.

    Raises RecordError for a wrong type, a web address or inline data that cannot be decoded.
    """
    media = Media(path)
    values = {"image": _listed(record, "image"), "video": _listed(record, "video")}
    order = media_order(record, len(values["image"]), len(values["video"]))
    for kind in order:
        at = len(media.by_kind[kind])
        media.add(kind, values[kind][at], f"{kind}[{at}]")
    return media


def media_order(record: dict[str, Any], images: int, videos: int) -> list[str]:
    """The kinds in order: `media_order` where the record has one that fits, else images, then videos."""
    order = record.get("media_order")
    usual = ["image"] * images + ["video"] * videos
    if isinstance(order, list) and all(isinstance(k, str) for k in order) and sorted(order) == usual:
        return order
    return usual


def _listed(record: dict[str, Any], kind: str) -> list[Any]:
    one, many = _as_list(record.get(kind), kind), _as_list(record.get(kind + "s"), kind + "s")
    if not many or not one:
        return many or one
    if one in (many, many[:1]):
        return many
    raise RecordError("bad_type", f"{kind} is {_short(one[0])}, but {kind}s begins with {_short(many[0])}")


def _as_list(value: Any, field: str) -> list[Any]:
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        return [value]
    if all(v is None or v == "" for v in value):
        return []
    return value


def ref_from(value: Any, field: str, path: str) -> Ref:
    """The ref of one medium as a record gives it. Raises RecordError."""
    if isinstance(value, Ref):
        return value
    if isinstance(value, dict):
        name = _first(value, "path", "name")
        if (data := _first(value, "bytes", "data", "base64")) is not None:
            if not isinstance(data, str):
                raise RecordError("bad_type", f"{field}: the bytes are {type_name(data)}, not base64 text")
            return _inline(_base64(data, field), path, name if isinstance(name, str) else "")
        if (given := _first(value, "url", "path", "image", "video", "image_url", "video_url")) is not None:
            return ref_from(given, field, path)
    if not isinstance(value, str) or not value:
        what = "an empty string" if value == "" else type_name(value)
        raise RecordError("bad_type", f"{field} is {what}, not a path")
    if value[:5].lower() == "data:":
        return _inline(_data_url(value, field), path, "")
    if BARE_BASE64.fullmatch(value):
        return _inline(_base64(value, field), path, "")
    if (scheme := SCHEME.match(value)) and (value.startswith("//", scheme.end())):
        if scheme[1].lower() != "file":
            raise RecordError("remote_media", f"{field} is {_short(value)}")
        place = value[scheme.end() + 2 :]
        host, slash, rest = place.partition("/")
        value = unquote(slash + rest if host in ("", "localhost") else place)
        if not value:
            raise RecordError("bad_type", f"{field} is a file address without a path")
    return Ref("file", value, 0, -1, "", value)


def _first(value: dict[str, Any], *names: str) -> Any:
    return next((value[n] for n in names if value.get(n) is not None), None)


def _inline(data: bytes, path: str, name: str) -> Ref:
    return Ref("inline", path, 0, len(data), "", name, data)


def _data_url(url: str, field: str) -> bytes:
    head, comma, payload = url.partition(",")
    if not comma:
        raise RecordError("bad_data_url", f"{field}: a data URL without a comma")
    if head.lower().endswith(";base64"):
        return _base64(unquote(payload) if "%" in payload else payload, field)
    if not payload:
        raise RecordError("bad_data_url", f"{field}: the data URL is empty")
    return unquote_to_bytes(payload.encode(errors="replace"))


def _base64(text: str, field: str) -> bytes:
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError("bad_data_url", f"{field}: not base64: {error}"[:200]) from None
    if not data:
        raise RecordError("bad_data_url", f"{field}: the inline medium is empty")
    return data


def _short(value: Any) -> str:
    return f"{value!r}" if len(f"{value!r}") <= 80 else f"{value!r}"[:77] + "..."
