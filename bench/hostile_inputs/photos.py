"""Photos that are damaged, disguised, or far larger than they look."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pillow_heif import from_pillow

from hostile_inputs.cases import JSON, PHOTO_ROUTES, Case, form

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "HEIC")
_SHARE_OF_JSON = 0.15


def encode(image: Image.Image, form_name: str) -> bytes:
    """The image as a file of that format."""
    file = io.BytesIO()
    if form_name == "HEIC":
        from_pillow(image).save(file, quality=80)
    else:
        image.save(file, form_name)
    return file.getvalue()


def drawn(size: int = 160) -> Image.Image:
    """Something face-like that nobody is."""
    noise = np.random.default_rng(size).integers(0, 40, (size, size, 3), np.uint8)
    image = Image.fromarray(noise)
    pen = ImageDraw.Draw(image)
    pen.ellipse((size * 0.2, size * 0.1, size * 0.8, size * 0.9), fill=(220, 180, 150))
    for x in (0.38, 0.62):
        pen.ellipse((size * (x - 0.05), size * 0.38, size * (x + 0.05), size * 0.46), fill=(30, 20, 20))
    pen.rectangle((size * 0.38, size * 0.68, size * 0.62, size * 0.73), fill=(150, 60, 60))
    return image


class Photos:
    """Makes hostile photos from drawn ones, and from real ones where a folder of them is given."""

    def __init__(self, folder: Path | None) -> None:
        images = [drawn(96), drawn(224)]
        paths = sorted(folder.glob("*.jpg"))[:8] if folder is not None else []
        for path in paths:
            with Image.open(path) as opened:
                reduced = opened.convert("RGB")
                reduced.thumbnail((320, 320))
                images.append(reduced)
        self._files = {name: [encode(image, name) for image in images] for name in FORMATS}
        self._bombs = {name: make() for name, make in _BOMBS.items()}

    def mutated(self, random_: random.Random) -> Case:
        """Some bytes changed, most often near the front, where headers are."""
        name, data = self._any(random_)
        changed = bytearray(data)
        reach = len(changed) if random_.random() < 0.4 else min(len(changed), 400)
        for _ in range(random_.choice((1, 2, 8, 40))):
            changed[random_.randrange(reach)] = random_.choice((0, 0xFF, 0x7F, random_.randrange(256)))
        return self._sent(random_, f"mutated {name}", bytes(changed))

    def rearranged(self, random_: random.Random) -> Case:
        """A stretch removed, doubled, or taken from a file of another format."""
        name, data = self._any(random_)
        start = random_.randrange(len(data))
        end = min(len(data), start + random_.choice((1, 4, 64, 4096)))
        _, other = self._any(random_)
        between = random_.choice((b"", data[start:end] * 2, other[: end - start], bytes(end - start)))
        return self._sent(random_, f"rearranged {name}", data[:start] + between + data[end:])

    def truncated(self, random_: random.Random) -> Case:
        """Cut off anywhere."""
        name, data = self._any(random_)
        reach = len(data) if random_.random() < 0.5 else min(64, len(data))
        return self._sent(random_, f"truncated {name}", data[: random_.randrange(reach)])

    def bomb(self, random_: random.Random) -> Case:
        """Small on the wire, huge when believed."""
        name = random_.choice(sorted(self._bombs))
        return self._sent(random_, f"bomb {name}", self._bombs[name])

    def polyglot(self, random_: random.Random) -> Case:
        """Two formats at once, or one in the other's clothes."""
        name, data = self._any(random_)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("../../evil.py", "import os")
        page = b"<script>alert(1)</script><?php system('id'); ?>"
        cloak = {
            "with a zip behind": data + archive.getvalue(),
            "with a page behind": data + page,
            "with a pickle before": b"\x80\x04\x95cos\nsystem\n(S'id'\ntR." + data,
            "with PDF before": b"%PDF-1.7\n1 0 obj\n" + data,
            "named by another's signature": random_.choice(self._files["PNG"])[:8] + data[8:],
            "in a HEIC's box": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + data,
            "in a RIFF": b"RIFF" + struct.pack("<I", len(data)) + b"WEBP" + data,
            "as EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n(r) file\n" + data,
        }
        way = random_.choice(sorted(cloak))
        return self._sent(random_, f"polyglot {name} {way}", cloak[way])

    def foreign(self, random_: random.Random) -> Case:
        """No photo at all."""
        files = {
            "nothing": b"",
            "zeros": bytes(random_.randrange(1, 5000)),
            "noise": random_.randbytes(random_.randrange(1, 5000)),
            "text": b"hello " * 100,
            "SVG": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
            "ELF": b"\x7fELF\x02\x01\x01" + bytes(200),
            "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\x7f\xff\xff\xff" * 2 + b"\0\x08\0\3" + bytes(200),
            "ICO": b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0\xff\xff\xff\x7f\x16\0\0\0" + bytes(64),
            "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 " + bytes(100),
            "PPM": b"P6 99999 99999 255\n" + bytes(100),
            "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + random_.randbytes(300),
        }
        name = random_.choice(sorted(files))
        return self._sent(random_, f"foreign {name}", files[name])

    def _any(self, random_: random.Random) -> tuple[str, bytes]:
        name = random_.choice(FORMATS)
        return name, random_.choice(self._files[name])

    def _sent(self, random_: random.Random, kind: str, data: bytes) -> Case:
        target, field_name = random_.choice(PHOTO_ROUTES)
        if random_.random() < 0.1:
            target, field_name = random_.choice(
                (("/v1/verify", "source"), ("/api/v1/verification/verify", "source_image"))
            )
            return self._two(kind, target, field_name, data)
        if random_.random() < _SHARE_OF_JSON:
            body = json.dumps({field_name: base64.b64encode(data).decode()}).encode()
            return Case(kind, "POST", target, (("Content-Type", JSON),), body)
        headers, body = form(field_name, data)
        return Case(kind, "POST", target, headers, body)

    def _two(self, kind: str, target: str, field_name: str, data: bytes) -> Case:
        other = self._files["JPEG"][0]
        names = (field_name, field_name.replace("source", "target"))
        document = {name: base64.b64encode(file).decode() for name, file in zip(names, (data, other), strict=True)}
        return Case(kind, "POST", target, (("Content-Type", JSON),), json.dumps(document).encode())


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(chunks) + _chunk(b"IEND", b"")


def _repeated(byte: bytes, count: int) -> bytes:
    """zlib of a byte repeated, without ever holding it whole."""
    packer = zlib.compressobj(9)
    block = byte * 2**20
    return b"".join(packer.compress(block) for _ in range(count >> 20)) + packer.flush()


def _large_png(width: int, height: int) -> bytes:
    """Truly that many pixels, all black."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return _png(width, height, _chunk(b"IDAT", data))


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(encode(drawn(96), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _jpeg_of_segments() -> bytes:
    data = encode(drawn(96), "JPEG")
    return data[:2] + b"\xff\xe1\xff\xff" + bytes(65533) + (b"\xff\xfe\x00\x04ab" * 50_000) + data[2:]


def _tiff(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + struct.pack("<I", following) + bytes(64)


def _tiff_of(width: int, height: int, following: int = 0, strips: int = 1) -> bytes:
    return _tiff(
        [
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, strips, 8),
            (277, 3, 1, 1),
            (278, 4, 1, height),
            (279, 4, strips, 0xFFFFFFF0),
        ],
        following,
    )


def _heic_of(width: int, height: int) -> bytes:
    data = bytearray(encode(drawn(96), "HEIC"))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def _bmp_of(width: int, height: int, bits: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024, 0, 0, 54) + header + bytes(1024)


def _webp_canvas() -> bytes:
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff\xff\xff" * 2
    return b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas


def _gif_of_frames() -> bytes:
    frames = [Image.new("P", (64, 64), color) for color in range(200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], loop=0)
    return file.getvalue()


_BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG of 3.6 gigapixels": lambda: _png(60_000, 60_000, _chunk(b"IDAT", _repeated(b"\0", 2**24))),
    "PNG of 2^31 columns": lambda: _png(2**31 - 1, 1, _chunk(b"IDAT", zlib.compress(bytes(100)))),
    "PNG within the limit": lambda: _large_png(5000, 4000),
    "PNG above the limit": lambda: _large_png(7200, 7000),
    "PNG of too much data": lambda: _png(10, 10, _chunk(b"IDAT", _repeated(b"\0", 2**27))),
    "PNG text": lambda: _png(4, 4, _chunk(b"zTXt", b"k\0\0" + _repeated(b"A", 2**26))),
    "PNG profile": lambda: _png(4, 4, _chunk(b"iCCP", b"p\0\0" + _repeated(b"A", 2**26))),
    "PNG of many chunks": lambda: _png(4, 4, *[_chunk(b"tEXt", b"a\0b")] * 20_000),
    "GIF of 65535": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(40) + b";",
    "GIF of frames": _gif_of_frames,
    "WebP canvas": _webp_canvas,
    "JPEG of 65500": lambda: _jpeg_of(65500, 65500),
    "JPEG within the limit": lambda: _jpeg_of(7000, 7000),
    "JPEG of segments": _jpeg_of_segments,
    "TIFF of 2^31": lambda: _tiff_of(2**31 - 1, 2**31 - 1),
    "TIFF within the limit": lambda: _tiff_of(7000, 7000),
    "TIFF that follows itself": lambda: _tiff_of(64, 64, following=8),
    "TIFF of strips": lambda: _tiff_of(64, 64, strips=2**31 - 1),
    "BMP of 2^30": lambda: _bmp_of(2**30, 2**30, 24),
    "BMP upside down": lambda: _bmp_of(7000, -7000, 32),
    "BMP of no bits": lambda: _bmp_of(64, 64, 0),
    "HEIC of 2^31": lambda: _heic_of(2**31 - 1, 2**31 - 1),
    "HEIC within the limit": lambda: _heic_of(7000, 7000),
}
