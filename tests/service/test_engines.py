"""The engine: the checkpoint's own numbers, a cache that heals, and no torch once it is warm."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from models import checkpoint, pretrained, probe
from models.checkpoint import Checkpoint, InputSpec, Metadata, WeightsMismatch
from models.detector.decode import overlaps
from models.detector.find import find_faces
from models.embedding import embed
from models.network import instantiate, torch_forward, weights_of
from models.registry import build
from service.recognition.batching import Batcher, in_buckets
from service.recognition.engines import TOLERANCES, EngineOptions, OpenVinoEngine, multiplies_in_bf16
from service.recognition.errors import EngineError

OPTIONS = EngineOptions(threads=1)


def fresh_checkpoint(path: Path, metadata: Metadata) -> Checkpoint:
    """A checkpoint with random weights and a true probe."""
    torch.manual_seed(7)
    network = build(metadata.architecture, **metadata.arguments).eval()
    draft = checkpoint.write(path, weights_of(network), metadata)
    spec = metadata.input
    reference = probe.make(torch_forward(instantiate(draft)), spec.width, spec.height)
    return checkpoint.write(path, draft.weights, metadata.model_copy(update={"probe": reference}))


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    metadata = Metadata(
        task="recognition",
        name="small",
        architecture="mobilefacenet",
        arguments={"embedding_size": 128},
        embedding_size=128,
        flip_average=True,
    )
    return fresh_checkpoint(tmp_path_factory.mktemp("checkpoints") / "small.safetensors", metadata)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    metadata = Metadata(
        task="detection",
        name="det",
        architecture="centreface-fpn",
        input=InputSpec(width=192, height=160, alignment=None),
    )
    return fresh_checkpoint(tmp_path_factory.mktemp("checkpoints") / "det.safetensors", metadata)


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """These networks are too small for more; threads that spin for each other slow a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def warm(recogniser: Checkpoint, cache: Path, tmp_path: Path) -> Path:
    """A cache of the test's own that holds the recogniser's graph."""
    OpenVinoEngine.open(recogniser, cache, OPTIONS)
    return shutil.copytree(cache, tmp_path / "cache", ignore=shutil.ignore_patterns("det-*"))


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (21, 112, 112, 3), dtype=np.uint8)


def sums_eight_bits_exactly() -> bool:
    """Whether the processor has VNNI."""
    return "vnni" in Path("/proc/cpuinfo").read_text()


def graphs(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/graph.xml"))


def test_the_recogniser_gives_the_numbers_of_torch(recogniser: Checkpoint, cache: Path) -> None:
    engine = OpenVinoEngine.open(recogniser, cache, OPTIONS)
    planes = np.random.default_rng(0).uniform(-1, 1, (3, 3, 112, 112)).astype(np.float32)

    (ours,), (reference,) = engine(planes), torch_forward(instantiate(recogniser))(planes)

    assert ours.dtype == np.float32
    assert np.abs(ours - reference).max() < 1e-3 * np.abs(reference).max()
    assert engine.check() < 1e-5


def test_the_quicker_precision_gives_nearly_the_same_embeddings(tmp_path: Path, shared: Path) -> None:
    shipped = checkpoint.read(pretrained.RECOGNISER)
    quick, exact = (
        OpenVinoEngine.open(shipped, tmp_path, EngineOptions(precision=precision)) for precision in ("auto", "f32")
    )
    with tarfile.open(shared / "data/cfp-dev.tar.gz") as archive:
        files = [member for member in archive if member.isfile()][::100]
        faces = np.stack([np.asarray(Image.open(archive.extractfile(file)).convert("RGB")) for file in files])
    ours, theirs = (embed(faces, engine, flip_average=True) for engine in (quick, exact))

    assert len(faces) > 20
    assert quick.check() < TOLERANCES[quick.precision]
    assert exact.check() < 1e-5
    assert np.abs(ours @ ours.T - theirs @ theirs.T).max() < 0.04
    assert np.sum(ours * theirs, axis=1).min() > 0.99


def test_a_network_that_the_quicker_precision_changes_too_much_runs_in_f32(
    recogniser: Checkpoint, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "bf16", 1e-5)
    engine = OpenVinoEngine.open(recogniser, cache, EngineOptions(precision="auto"))

    assert engine.precision == "f32"
    assert engine.check() < 1e-5


def test_the_quicker_precision_finds_nearly_the_same_faces(tmp_path: Path, shared: Path) -> None:
    shipped = checkpoint.read(pretrained.DETECTOR)
    quick, exact = (
        OpenVinoEngine.open(shipped, tmp_path, EngineOptions(precision=precision)) for precision in ("auto", "f32")
    )
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((shared / "data/demo").glob("*.jpg"))]
    ours, theirs = (
        [sorted(find_faces(photo, engine), key=lambda face: face.box) for photo in photos] for engine in (quick, exact)
    )

    assert quick.precision == ("int8" if sums_eight_bits_exactly() else "f32")
    assert [len(faces) for faces in ours] == [len(faces) for faces in theirs]
    assert sum(map(len, ours)) > 20
    overlap, shift = [], []
    for one, other in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        overlap.append(overlaps(np.array(one.box, np.float32), np.array(other.box, np.float32)))
        eyes = np.linalg.norm(other.landmarks[0] - other.landmarks[1])
        shift.append(np.linalg.norm(one.landmarks - other.landmarks, axis=1).max() / eyes)
    # Of two cells that are as sure of one face either may speak, so a single face can move by more.
    assert np.median(overlap) > 0.98
    assert np.median(shift) < 0.02
    assert min(overlap) > 0.8
    assert max(shift) < 0.1


def test_processors_of_another_kind_do_not_run_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    engine = OpenVinoEngine.open(checkpoint.read(pretrained.DETECTOR), tmp_path, EngineOptions(precision="auto"))
    assert engine.precision == ("bf16" if multiplies_in_bf16() else "f32")


def test_a_detector_whose_sums_saturate_does_not_run_in_int8(tmp_path: Path) -> None:
    """oneDNN is held to instructions without VNNI, as an older processor has."""
    if not (sums_eight_bits_exactly() and "avx512" in Path("/proc/cpuinfo").read_text()):
        pytest.skip("this processor has not both kinds of instructions")
    script = tmp_path / "open.py"
    script.write_text("""
import sys
from pathlib import Path
from models import checkpoint, pretrained
from service.recognition.engines import EngineOptions, OpenVinoEngine, multiplies_in_bf16
if __name__ == "__main__":
    loaded = checkpoint.read(pretrained.DETECTOR)
    print(OpenVinoEngine.open(loaded, Path(sys.argv[1]), EngineOptions(precision="auto")).precision)
""")
    taken = {}
    for instructions in ("AVX512_CORE", "DEFAULT"):
        call = [sys.executable, str(script), str(tmp_path / "cache")]
        environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True, timeout=120)
        taken[instructions] = done.stdout.strip()
    assert taken["AVX512_CORE"] != "int8"
    assert taken["DEFAULT"] == "int8"


def test_the_detector_takes_photos_of_every_shape(detector: Checkpoint, cache: Path) -> None:
    engine = OpenVinoEngine.open(detector, cache, OPTIONS)
    reference = torch_forward(instantiate(detector))
    for height, width in ((160, 192), (96, 320), (320, 96), (160, 192)):
        planes = np.random.default_rng(0).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
        for ours, theirs in zip(engine(planes), reference(planes), strict=True):
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_a_batched_embedding_equals_the_unbatched_one(
    recogniser: Checkpoint, cache: Path, crops: np.ndarray, precision: Literal["auto", "f32"]
) -> None:
    engine = OpenVinoEngine.open(recogniser, cache, EngineOptions(threads=1, precision=precision))
    forward = in_buckets(engine)
    batcher = Batcher(lambda rows: embed(rows, forward, flip_average=True))
    jobs = [crops[:1], crops[1:4], crops[4:15], crops[15:]]

    together = np.concatenate([future.result(30) for future in [batcher.submit(job) for job in jobs]])
    batcher.close()
    alone = np.concatenate([embed(crop[None], engine, flip_average=True) for crop in crops])

    assert np.abs(together - alone).max() < 2e-6
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_threads_share_one_engine_without_mixing_their_results(detector: Checkpoint, cache: Path) -> None:
    engine = OpenVinoEngine.open(detector, cache, EngineOptions(threads=2, parallel=2))
    inputs = [np.full((1, 3, 32 * n, 64), n / 8, dtype=np.float32) for n in range(1, 7)]
    expected = [engine(planes)[0] for planes in inputs]
    wrong: list[int] = []

    def ask(n: int) -> None:
        for _ in range(5):
            if not np.allclose(engine(inputs[n])[0], expected[n], atol=1e-4):
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_the_graph_is_exported_once(recogniser: Checkpoint, warm: Path) -> None:
    (graph,) = graphs(warm)
    written = graph.stat().st_mtime_ns
    OpenVinoEngine.open(recogniser, warm, OPTIONS)

    assert graphs(warm) == [graph]
    assert graph.stat().st_mtime_ns == written
    assert [entry.name for entry in warm.iterdir()] == [graph.parent.name]


@pytest.mark.parametrize("damage", [b"", b"<net"])
def test_a_damaged_graph_is_derived_anew(recogniser: Checkpoint, warm: Path, damage: bytes) -> None:
    (graph,) = graphs(warm)
    graph.write_bytes(damage)

    assert OpenVinoEngine.open(recogniser, warm, OPTIONS).check() < 1e-4
    assert graphs(warm) == [graph]


def test_a_graph_of_other_weights_is_caught_by_the_probe(recogniser: Checkpoint, warm: Path) -> None:
    (graph,) = graphs(warm)
    weights = np.fromfile(graph.with_suffix(".bin"), dtype=np.float32)
    real = np.abs(weights) > 1e-4  # and not the integers of shapes, which are tiny when read as floats
    weights[real] *= np.random.default_rng(0).uniform(0.5, 1.5, real.sum()).astype(np.float32)
    graph.with_suffix(".bin").unlink()
    weights.tofile(graph.with_suffix(".bin"))

    with pytest.raises(probe.ProbeMismatch):
        OpenVinoEngine.open(recogniser, warm, OPTIONS)


def test_a_checkpoint_without_a_probe_is_refused(recogniser: Checkpoint, cache: Path) -> None:
    unproven = Checkpoint(recogniser.metadata.model_copy(update={"probe": None}), recogniser.weights)
    with pytest.raises(EngineError, match="no probe"):
        OpenVinoEngine.open(unproven, cache, OPTIONS)


_OPEN = """
import sys
from pathlib import Path
from models import checkpoint
from service.recognition.engines import EngineOptions, OpenVinoEngine, multiplies_in_bf16
OpenVinoEngine.open(checkpoint.read(Path(sys.argv[1])), Path(sys.argv[2]), EngineOptions())
"""


def test_two_processes_may_export_at_once(recogniser: Checkpoint, tmp_path: Path) -> None:
    path, cache = tmp_path / "small.safetensors", tmp_path / "cache"
    checkpoint.write(path, recogniser.weights, recogniser.metadata)
    command = [sys.executable, "-c", _OPEN, str(path), str(cache)]
    processes = [subprocess.Popen(command) for _ in range(2)]

    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(graphs(cache)) == len(list(cache.iterdir())) == 1


_REPORT = """
import sys
from pathlib import Path
from models import checkpoint
from service.recognition.engines import EngineOptions, OpenVinoEngine, multiplies_in_bf16
from service.recognition.errors import GraphMissing
if sys.argv[3] == "hidden":
    sys.modules["torch"] = None  # as if it had never been installed
try:
    OpenVinoEngine.open(checkpoint.read(Path(sys.argv[1])), Path(sys.argv[2]), EngineOptions())
except GraphMissing as error:
    print("missing:", error)
else:
    print("ran, torch imported:", sys.modules.get("torch") is not None)
"""


def report(path: Path, cache: Path, torch_is: str) -> str:
    command = [sys.executable, "-c", _REPORT, str(path), str(cache), torch_is]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@pytest.mark.parametrize("torch_is", ["installed", "hidden"])
def test_a_warm_cache_needs_no_torch(recogniser: Checkpoint, warm: Path, torch_is: str) -> None:
    path = warm.parent / "small.safetensors"
    checkpoint.write(path, recogniser.weights, recogniser.metadata)

    assert report(path, warm, torch_is) == "ran, torch imported: False"


def test_even_the_export_leaves_no_torch_in_the_process(recogniser: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    checkpoint.write(path, recogniser.weights, recogniser.metadata)

    assert report(path, tmp_path / "cache", "installed") == "ran, torch imported: False"


def test_a_cold_cache_without_torch_names_the_remedy(recogniser: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    checkpoint.write(path, recogniser.weights, recogniser.metadata)
    answer = report(path, tmp_path / "cache", "hidden")

    assert answer.startswith("missing:")
    assert "pip install" in answer


def test_weights_of_another_architecture_are_refused(recogniser: Checkpoint, tmp_path: Path) -> None:
    wider = recogniser.metadata.model_copy(update={"arguments": {"embedding_size": 256}})
    with pytest.raises(WeightsMismatch):
        OpenVinoEngine.open(Checkpoint(wider, recogniser.weights), tmp_path, OPTIONS)

    assert list(tmp_path.iterdir()) == []


def test_a_read_only_cache_that_is_warm_serves(recogniser: Checkpoint, warm: Path) -> None:
    before = sorted(warm.rglob("*"))
    warm.chmod(0o500)
    try:
        OpenVinoEngine.open(recogniser, warm, OPTIONS)
    finally:
        warm.chmod(0o700)

    assert sorted(warm.rglob("*")) == before
