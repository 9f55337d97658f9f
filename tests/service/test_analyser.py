"""The pipeline on real photos, with the shipped checkpoints."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import checkpoint, pretrained, probe
from models.checkpoint import CheckpointDamaged, CheckpointError
from models.detector.refine import SHARE
from models.network import instantiate, torch_forward
from service.recognition.analyser import AnalysedPhoto, Analyser
from service.recognition.decoding import ImageLimits
from service.recognition.errors import MalformedImage, Overloaded, TooManyPixels, UnsupportedFormat


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def analyser(cache: Path) -> Iterator[Analyser]:
    opened = Analyser.open(pretrained.RECOGNISER, pretrained.DETECTOR, cache, ImageLimits(), threads=2)
    yield opened
    opened.close()


def analysed(analyser: Analyser, data: bytes, max_faces: int = 20) -> AnalysedPhoto:
    return asyncio.run(analyser.analyse(data, max_faces))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_it_names_its_models_and_passes_their_probes(analyser: Analyser) -> None:
    analyser.check()

    assert analyser.model_id.startswith(f"{analyser.metadata.name}@")
    assert analyser.detector_id != analyser.model_id
    assert analyser.embedding_size == analyser.metadata.embedding_size
    assert analyser.calibration is analyser.metadata.calibration


def test_a_portrait_gives_one_good_face_with_a_unit_embedding(analyser: Analyser, demo: Path) -> None:
    data = (demo / "004_A.jpg").read_bytes()
    photo = analysed(analyser, data)

    assert (photo.width, photo.height) == (3024, 4032)
    assert photo.digest == hashlib.sha256(data).hexdigest()
    assert {"decode", "detect", "align", "embed", "total"} <= photo.timing_ms.keys()
    best = photo.faces[0]
    assert best.reasons == ()
    assert best.quality > 0.8
    assert best.embedding is not None
    assert best.embedding.shape == (analyser.embedding_size,)
    assert best.embedding.dtype == np.float32
    assert np.linalg.norm(best.embedding) == pytest.approx(1, abs=1e-5)


def test_boxes_are_in_pixels_of_the_whole_photo_though_it_was_decoded_smaller(analyser: Analyser, demo: Path) -> None:
    box = analysed(analyser, (demo / "004_A.jpg").read_bytes()).faces[0].face.box
    # The person fills the middle of 3024x4032 pixels.
    assert 350 < box[2] < 900
    assert 900 < box[0] + box[2] / 2 < 1800
    assert 1400 < box[1] + box[3] / 2 < 2400


def test_a_photo_decoded_smaller_gives_nearly_the_same_embedding(analyser: Analyser, cache: Path, demo: Path) -> None:
    data = (demo / "004_A.jpg").read_bytes()
    lossless = encoded(Image.open(BytesIO(data)).convert("RGB"), "PNG", compress_level=0)
    # A lossless file cannot be decoded smaller; it is larger than a server's usual limit.
    generous = Analyser.open(pretrained.RECOGNISER, pretrained.DETECTOR, cache, ImageLimits(max_bytes=64 * 2**20))
    first, second = analysed(analyser, data, 1).faces[0], analysed(generous, lossless, 1).faces[0]
    generous.close()

    assert first.embedding is not None
    assert second.embedding is not None
    assert float(first.embedding @ second.embedding) > 0.97


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_stored_sideways_is_seen_upright(analyser: Analyser, demo: Path, orientation: int) -> None:
    upright = Image.open(demo / "007_B.jpg").convert("RGB")
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(upright.transpose(turn[orientation]), "JPEG", quality=95, exif=exif)

    first = analysed(analyser, (demo / "007_B.jpg").read_bytes())
    second = analysed(analyser, stored)

    assert (second.width, second.height) == upright.size
    assert second.faces[0].face.box == pytest.approx(first.faces[0].face.box, abs=8)


@pytest.mark.parametrize("name", ["011_3.jpg", "013_4.jpg", "015_6.jpg"])
def test_everyone_in_a_group_is_found_largest_first(analyser: Analyser, demo: Path, name: str) -> None:
    photo = analysed(analyser, (demo / name).read_bytes())
    areas = [face.face.box[2] * face.face.box[3] for face in photo.faces]

    assert len(photo.faces) == int(name.split("_")[1][0])
    assert areas == sorted(areas, reverse=True)
    two = analysed(analyser, (demo / name).read_bytes(), max_faces=2)
    assert [face.face.box for face in two.faces] == [face.face.box for face in photo.faces[:2]]


def test_a_photo_without_faces_has_none(analyser: Analyser, demo: Path) -> None:
    assert analysed(analyser, (demo / "017_0.jpg").read_bytes()).faces == ()


def test_detect_finds_the_same_faces_without_embeddings(analyser: Analyser, demo: Path) -> None:
    data = (demo / "011_3.jpg").read_bytes()
    found = asyncio.run(analyser.detect(data, 20))

    assert [face.face.box for face in found.faces] == [face.face.box for face in analysed(analyser, data).faces]
    assert all(face.embedding is None for face in found.faces)


def test_a_person_is_nearer_to_themselves_than_to_others(analyser: Analyser, demo: Path) -> None:
    def embedding(name: str) -> np.ndarray:
        best = analysed(analyser, (demo / name).read_bytes(), 1).faces[0].embedding
        assert best is not None
        return best

    same = embedding("004_A.jpg") @ embedding("005_A.jpg"), embedding("007_B.jpg") @ embedding("008_B.jpg")
    different = embedding("004_A.jpg") @ embedding("007_B.jpg"), embedding("obama.jpg") @ embedding("biden.jpg")

    assert min(same) > max(different)


def test_photos_analysed_at_once_do_not_mix(analyser: Analyser, demo: Path) -> None:
    names = ["004_A.jpg", "007_B.jpg", "009_C.jpg", "011_3.jpg", "obama.jpg", "biden.jpg"] * 2
    data = [(demo / name).read_bytes() for name in names]
    alone = [analysed(analyser, photo) for photo in data]

    async def at_once() -> list[AnalysedPhoto]:
        return await asyncio.gather(*(analyser.analyse(photo, 20) for photo in data))

    for one, other in zip(alone, asyncio.run(at_once()), strict=True):
        assert one.digest == other.digest
        assert len(one.faces) == len(other.faces)
        for first, second in zip(one.faces, other.faces, strict=True):
            assert first.face.box == pytest.approx(second.face.box, abs=1e-3)
            assert first.embedding is not None
            assert second.embedding is not None
            assert np.abs(first.embedding - second.embedding).max() < 1e-5


def test_a_bad_photo_among_good_ones_fails_alone(analyser: Analyser, demo: Path) -> None:
    good = (demo / "007_B.jpg").read_bytes()

    async def at_once() -> list[AnalysedPhoto | BaseException]:
        photos = [good, good[:5000], b"%PDF-1.7", good]
        return await asyncio.gather(*(analyser.analyse(p, 5) for p in photos), return_exceptions=True)

    first, truncated, pdf, last = asyncio.run(at_once())

    assert isinstance(truncated, MalformedImage)
    assert isinstance(pdf, UnsupportedFormat)
    assert isinstance(first, AnalysedPhoto)
    assert isinstance(last, AnalysedPhoto)
    assert first.faces[0].face.box == last.faces[0].face.box


def test_profiles_are_more_often_called_extreme_than_frontal_faces(
    analyser: Analyser, unpacked: Callable[[str], Path]
) -> None:
    people = sorted(path for path in unpacked("cfp-dev").iterdir() if path.is_dir())[:20]

    def extreme(kind: str) -> float:
        flags = []
        for person in people:
            crop = np.asarray(Image.open(sorted(person.glob(f"{kind}_*.webp"))[0]).convert("RGB"))
            photo = Image.fromarray(np.pad(crop, ((56, 56), (56, 56), (0, 0))))
            for face in asyncio.run(analyser.detect(encoded(photo, "PNG"), 1)).faces:
                flags.append("extreme_pose" in face.reasons)
        return sum(flags) / max(1, len(flags))

    assert extreme("frontal") <= 0.05
    assert extreme("profile") >= 0.25


def test_more_photos_than_may_wait_are_refused(cache: Path, demo: Path) -> None:
    data = (demo / "011_3.jpg").read_bytes()
    small = Analyser.open(pretrained.RECOGNISER, pretrained.DETECTOR, cache, ImageLimits(), threads=1, waiting=1)

    async def at_once() -> list[AnalysedPhoto | BaseException]:
        return await asyncio.gather(*(small.analyse(data, 5) for _ in range(6)), return_exceptions=True)

    answers = asyncio.run(at_once())
    served = [answer for answer in answers if isinstance(answer, AnalysedPhoto)]
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert (len(served), len(refused)) == (2, 4)

    assert analysed(small, data).faces  # and it takes photos again
    small.close()
    with pytest.raises(Overloaded):
        analysed(small, data)


def test_limits_hold(cache: Path, demo: Path) -> None:
    limits = ImageLimits(max_bytes=10**6, max_pixels=100_000)
    strict = Analyser.open(pretrained.RECOGNISER, pretrained.DETECTOR, cache, limits)
    with pytest.raises(TooManyPixels):
        analysed(strict, (demo / "007_B.jpg").read_bytes())
    strict.close()


def test_swapped_or_missing_checkpoints_are_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="recognition is needed"):
        Analyser.open(pretrained.DETECTOR, pretrained.DETECTOR, cache, ImageLimits())
    with pytest.raises(CheckpointDamaged, match=r"absent\.safetensors"):
        Analyser.open(tmp_path / "absent.safetensors", pretrained.DETECTOR, cache, ImageLimits())


def test_landmarks_and_scores_are_of_the_network_of_further_looks_too_if_the_detector_has_one(
    analyser: Analyser, cache: Path, demo: Path, tmp_path: Path
) -> None:
    """Statistics of further looks that blind it: boxes stay, landmarks and scores become those of the first look."""
    shipped = checkpoint.read(pretrained.DETECTOR)
    assert shipped.further_looks() is not None
    weights = {
        name: np.full_like(array, 100) if name.startswith(checkpoint.LOOKS) and name.endswith("running_mean") else array
        for name, array in shipped.weights.items()
    }
    looks = checkpoint.Checkpoint(shipped.metadata, weights).further_looks()
    assert looks is not None
    told = probe.make(torch_forward(instantiate(looks)), 160, 160)
    path = tmp_path / "blind.safetensors"
    checkpoint.write(path, weights, shipped.metadata.model_copy(update={"looks_probe": told}))
    blind = Analyser.open(pretrained.RECOGNISER, path, cache, ImageLimits(), threads=1, score_threshold=0.5)
    try:
        data = (demo / "obama.jpg").read_bytes()
        seen, unseen = analysed(analyser, data).faces[0].face, analysed(blind, data).faces[0].face
    finally:
        blind.close()
    assert seen.box == pytest.approx(unseen.box, abs=0.5)
    assert unseen.score < 1 - SHARE < seen.score
    moved = np.abs(seen.landmarks - unseen.landmarks).max()
    assert 0 < moved < 0.2 * seen.box[2]
