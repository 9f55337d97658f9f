"""Drawn people, for pictures of the page that show nobody's photo. The detector takes them for faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
_SIZE = (640, 760)


@dataclass(frozen=True)
class DrawnPerson:
    """How somebody looks: colours; width of the face, distance of the eyes and the rest in pixels of the picture."""

    skin: Colour
    hair: Colour
    ground: Colour
    clothes: Colour
    width: int = 132
    eyes: int = 72
    nose: int = 104
    mouth: int = 60
    fringe: int = 0
    glasses: bool = False
    beard: bool = False
    long_hair: bool = False


ADA = DrawnPerson((240, 200, 172), (58, 38, 30), (160, 188, 198), (70, 92, 130), fringe=46, long_hair=True)
BEN = DrawnPerson((150, 104, 76), (28, 24, 26), (204, 194, 168), (96, 120, 92), 146, 82, 120, 74, 10, beard=True)
CLEO = DrawnPerson(
    (120, 80, 60), (150, 70, 40), (188, 170, 196), (128, 70, 84), 137, 60, 90, 40, 20, glasses=True, long_hair=True
)


def draw(person: DrawnPerson, path: Path, turn: int = 0) -> Path:
    """Draw somebody into a file; another `turn` (pixels) makes another photo of the same person."""
    picture = Image.new("RGB", _SIZE, person.ground)
    _outline(ImageDraw.Draw(picture), person)
    picture = picture.filter(ImageFilter.GaussianBlur(5))
    shadow = Image.new("RGB", _SIZE, _shade(person.skin, 0.7))
    picture = Image.composite(shadow, picture, _shadows(person, 320 + turn))
    pen = ImageDraw.Draw(picture)
    for side in (-1, 1):
        _eye(pen, person, 320 + turn + side * person.eyes)
    _nose_and_mouth(pen, person, 320 + turn)
    picture.filter(ImageFilter.GaussianBlur(1.4)).save(path)
    return path


def _outline(pen: ImageDraw.ImageDraw, person: DrawnPerson) -> None:
    width = person.width
    pen.rounded_rectangle((110, 630, 530, 880), 120, fill=person.clothes)
    pen.ellipse((302 - width, 110, 338 + width, 700 if person.long_hair else 520), fill=person.hair)
    pen.rectangle((270, 520, 370, 670), fill=_shade(person.skin, 0.82))
    pen.ellipse((320 - width, 170, 320 + width, 600), fill=person.skin)
    if person.fringe:
        pen.chord((322 - width, 150, 318 + width, 330 + person.fringe), 190, 350, fill=person.hair)
    if person.beard:
        pen.chord((320 - width, 330, 320 + width, 604), 8, 172, fill=person.hair)
        pen.ellipse((320 - width // 2, 400, 320 + width // 2, 490), fill=person.skin)


def _shadows(person: DrawnPerson, centre: int) -> Image.Image:
    mask = Image.new("L", _SIZE, 0)
    pen = ImageDraw.Draw(mask)
    for x in (centre - person.eyes, centre + person.eyes):
        pen.ellipse((x - 48, 300, x + 48, 372), fill=150)
    pen.polygon([(centre - 16, 350), (centre + 16, 350), (centre + 38, 452), (centre - 38, 452)], fill=110)
    pen.ellipse((centre - 60, 505, centre + 60, 540), fill=90)
    return mask.filter(ImageFilter.GaussianBlur(14))


def _eye(pen: ImageDraw.ImageDraw, person: DrawnPerson, x: int) -> None:
    y = 338
    pen.ellipse((x - 34, y - 15, x + 34, y + 15), fill=(244, 240, 236))
    pen.ellipse((x - 15, y - 16, x + 15, y + 14), fill=_shade(person.hair, 0.9))
    pen.ellipse((x - 7, y - 8, x + 7, y + 6), fill=(12, 10, 10))
    pen.ellipse((x + 2, y - 9, x + 8, y - 3), fill=(255, 255, 255))
    pen.arc((x - 36, y - 20, x + 36, y + 20), 190, 350, fill=_shade(person.hair, 0.6), width=6)
    pen.arc((x - 50, y - 56, x + 50, y + 24), 208, 332, fill=_shade(person.hair, 0.9), width=14 if person.beard else 9)
    if person.glasses:
        pen.rounded_rectangle((x - 56, y - 40, x + 56, y + 46), 30, outline=(40, 36, 48), width=8)


def _nose_and_mouth(pen: ImageDraw.ImageDraw, person: DrawnPerson, centre: int) -> None:
    tip = 338 + person.nose
    if person.glasses:
        pen.line((centre - person.eyes + 56, 336, centre + person.eyes - 56, 336), fill=(40, 36, 48), width=8)
    nostril = _shade(person.skin, 0.55)
    pen.ellipse((centre - 26, tip, centre - 10, tip + 12), fill=nostril)
    pen.ellipse((centre + 10, tip, centre + 26, tip + 12), fill=nostril)
    pen.arc((centre - 34, tip - 28, centre + 34, tip + 22), 25, 155, fill=_shade(person.skin, 0.7), width=4)
    half = person.mouth
    pen.chord((centre - half, 484, centre + half, 518), 180, 360, fill=(158, 70, 68))
    pen.chord((centre - half + 6, 478, centre + half - 6, 536), 8, 172, fill=(188, 96, 92))
    pen.line((centre - half, 507, centre, 512, centre + half, 507), fill=(96, 38, 38), width=4)


def _shade(colour: Colour, amount: float) -> Colour:
    red, green, blue = colour
    return round(red * amount), round(green * amount), round(blue * amount)
