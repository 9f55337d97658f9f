"""Lists of pairs: what is read, and how a wrong list is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.evaluation.pairs import COLUMNS, PairsError, read_pairs

HEADER = ",".join(COLUMNS)
LFW = "2\t1\nAda\t1\t2\nAda\t1\tBo\t3\nBo\t1\t3\nBo\t1\tAda\t2\n"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, numbers in (("Ada", (1, 2)), ("Bo", (1, 3))):
        (folder / name).mkdir(parents=True)
        for number in numbers:
            (folder / name / f"{name}_{number:04d}.jpg").touch()
    return folder


def listed(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "pairs.txt"
    file.write_text(text)
    return file


def test_lfw_list(photos: Path, tmp_path: Path) -> None:
    pairs = read_pairs(photos, listed(tmp_path, LFW))
    names = [path.name for path in pairs.images]
    assert names == ["Ada_0001.jpg", "Ada_0002.jpg", "Bo_0003.jpg", "Bo_0001.jpg"]
    assert [(names[a], names[b]) for a, b in zip(pairs.first, pairs.second, strict=True)][3] == (
        "Bo_0001.jpg",
        "Ada_0002.jpg",
    )
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.fold.tolist() == [0, 0, 1, 1]


def test_csv_list_equals_the_lfw_list(photos: Path, tmp_path: Path) -> None:
    lfw = read_pairs(photos, listed(tmp_path, LFW))
    rows = [
        "0,Ada,Ada_0001,Ada,Ada_0002,1",
        "0,Ada,Ada_0001,Bo,Bo_0003,0",
        "1,Bo,Bo_0001,Bo,Bo_0003,1",
        "1,Bo,Bo_0001,Ada,Ada_0002,0",
    ]
    pairs = read_pairs(photos, listed(tmp_path, "\n".join([HEADER, *rows])))
    assert pairs.images == lfw.images
    assert pairs.first.tolist() == lfw.first.tolist()
    assert pairs.second.tolist() == lfw.second.tolist()
    assert pairs.same.tolist() == lfw.same.tolist()


@pytest.mark.parametrize("suffix", ["webp", "jpg", "png"])
def test_csv_finds_each_format(tmp_path: Path, suffix: str) -> None:
    for subject in "ab":
        (tmp_path / subject).mkdir()
        (tmp_path / subject / f"1.{suffix}").touch()
    pairs = read_pairs(tmp_path, listed(tmp_path, f"{HEADER}\n0,a,1,b,1,0\n1,a,1,a,1,1\n"))
    assert [path.suffix for path in pairs.images] == [f".{suffix}"] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("hello\n", r"pairs.txt:1: neither"),
        ("2\t1\nAda\t1\t2\n", "1 pairs where its first line promises 2 x 2 x 1"),
        (LFW.replace("Ada\t1\t2", "Ada\t1\tx"), r"pairs.txt:2: expected 'NAME n m'"),
        (LFW.replace("Bo\t1\tAda\t2", "Bo\t1\t2"), r"pairs.txt:5: expected 'NAME_A n NAME_B m'"),
        ("1\t1\nAda\t1\t2\nAda\t1\tBo\t1\n", "fewer than 2 folds"),
        (f"{HEADER}\n0,a,1,b,1\n", r"pairs.txt:2: 5 cells"),
        (f"{HEADER}\n0,a,1,b,1,yes\n", r"pairs.txt:2: .*'yes'"),
        (LFW.replace("Bo\t1\t3", "Bo\t1\t7"), r"images missing .*Bo/Bo_0007 \(line 4\)"),
    ],
)
def test_a_wrong_list_names_file_and_line(photos: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PairsError, match=message):
        read_pairs(photos, listed(tmp_path, text))


def test_a_missing_folder_or_file_is_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="nowhere"):
        read_pairs(tmp_path / "nowhere", listed(tmp_path, LFW))
    with pytest.raises(PairsError, match=r"absent\.txt"):
        read_pairs(photos, tmp_path / "absent.txt")
