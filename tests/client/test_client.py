"""The Python client against a real server, with real photos."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from launching.server import ADMIN_KEY, Server

from facemargin import answers
from facemargin.client import (
    AsyncClient,
    Client,
    Embedding,
    FaceId,
    PhotoUrl,
    Problem,
)

MODELLED = {  # what the client calls otherwise than the service's document does
    "Detection": "DetectAnswer",
    "Embeddings": "EmbedAnswer",
    "Verification": "VerifyAnswer",
    "Identification": "IdentifyAnswer",
    "Enrolment": "EnrolAnswer",
    "Erasure": "EraseReceipt",
    "Merged": "MergeAnswer",
    "Readiness": "ReadyAnswer",
}
LEFT_OUT = {
    "DetectAnswer": {"width", "height"},
    "EmbedAnswer": {"width", "height"},
    "IdentifyAnswer": {"width", "height"},
}


def test_verify_takes_paths_bytes_and_files(client: Client, demo: Path) -> None:
    with (demo / "006_A.jpg").open("rb") as file:
        same = client.verify(demo / "004_A.jpg", file)
    other = client.verify((demo / "004_A.jpg").read_bytes(), str(demo / "007_B.jpg"), far=1e-3)
    assert (same.match, other.match) == (True, False)
    assert other.threshold_policy.far == 1e-3
    assert same.source_face.box is not None
    assert same.faces[0].similarity == same.similarity


def test_detect_and_embed_take_several_photos(client: Client, demo: Path) -> None:
    found = client.detect([demo / "004_A.jpg", demo / "010_2.jpg"])
    assert {face.image for face in found.faces} == {0, 1}
    assert len(found.photos) == 2
    embedded = client.embed(demo / "004_A.jpg", max_faces=1)
    vector = embedded.faces[0].embedding
    assert len(vector) == embedded.embedding_size
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-4)
    assert client.verify(Embedding(vector), demo / "006_A.jpg").match


def test_enrol_identify_and_erase(client: Client, demo: Path, people: str) -> None:
    enrolled = client.enrol("ada", [demo / "004_A.jpg", demo / "006_A.jpg"], collection=people)
    assert [face.image for face in enrolled.indexed] == [0, 1]
    known = client.identify(demo / "005_A.jpg", collection=people)
    assert known.faces[0].candidates[0].subject_id == "ada"
    unknown = client.identify(demo / "007_B.jpg", collection=people)
    assert {face.decision for face in unknown.faces} == {"unknown"}
    first = enrolled.indexed[0].face_id
    assert client.identify(FaceId(first), collection=people).faces[0].decision == "known"
    assert client.face("ada", first, collection=people).crop
    assert client.crop("ada", first, collection=people)[8:12] == b"WEBP"
    assert client.delete_face("ada", first, collection=people).faces_erased == 1
    assert [face.face_id for face in client.faces("ada", collection=people)] == [enrolled.indexed[1].face_id]
    assert client.delete_subject("ada", collection=people).subjects_erased == 1


def test_subjects_are_described_listed_searched_and_merged(client: Client, demo: Path, people: str) -> None:
    client.create_subject("ada 1", collection=people, name="Ada", metadata={"team": [1]})
    client.create_subject("..", collection=people)
    generated = client.create_subject(collection=people, name="Nameless").subject_id
    assert [subject.subject_id for subject in client.subjects(collection=people)] == ["ada 1", "..", generated]
    assert [subject.name for subject in client.subjects(collection=people, search="NAMEL")] == ["Nameless"]
    assert client.change_subject("ada 1", collection=people, name="Ada L.").metadata == {"team": [1]}
    assert client.subject("..", collection=people).faces == 0
    client.enrol(generated, demo / "004_A.jpg", collection=people)
    merged = client.merge_subject(generated, "ada 1", collection=people)
    assert (merged.subject_id, merged.faces, merged.faces_moved) == ("ada 1", 1, 1)
    assert people in [collection.id for collection in client.collections()]
    assert client.change_collection(people, name="Staff").name == "Staff"
    assert client.collection(people).subjects == 2


def test_a_list_longer_than_a_part_is_whole(client: Client, people: str) -> None:
    model = client.model().model
    header = f'{{"format": "facemargin-faces", "version": 1, "model": "{model}", "embedding_size": 512}}\n'
    subjects = "".join(f'{{"subject_id": "s{number}"}}\n' for number in range(450))
    assert client.import_faces((header + subjects).encode(), collection=people).subjects_created == 450
    listed = [subject.subject_id for subject in client.subjects(collection=people)]
    assert listed == [f"s{number}" for number in range(450)]


def test_what_was_exported_can_be_imported(client: Client, demo: Path, people: str, tmp_path: Path) -> None:
    client.enrol("ada", demo / "004_A.jpg", collection=people)
    file = tmp_path / "faces.ndjson"
    with file.open("wb") as output:
        output.writelines(client.export(collection=people))
    client.delete_subject("ada", collection=people)
    report = client.import_faces(file, collection=people)
    assert (report.imported, report.complete, report.errors) == (1, True, ())
    with file.open("rb") as opened:
        assert client.import_faces(opened, collection=people).skipped == 1
    assert client.identify(demo / "006_A.jpg", collection=people).faces[0].decision == "known"


def test_a_job_imports_an_archive(client: Client, demo: Path, people: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.write(demo / "004_A.jpg", "ada/1.jpg")
        file.write(demo / "007_B.jpg", "bob/1.jpg")
    accepted = client.import_photos(archive.getvalue(), collection=people)
    job = client.wait_for_job(accepted.job_id, timeout=120, interval=0.1)
    assert (job.state, job.done, job.rejected) == ("done", 2, 0)
    assert job.job_id in [found.job_id for found in client.jobs()]
    assert client.collection(people).faces == 2


def test_keys_and_audit(client: Client, server: Server, people: str) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    issued = client.create_key("door", "read", collections=[people], expires_at=ends)
    assert issued.expires_at is not None
    with Client(server.address, issued.secret) as door:
        assert door.own_key().collections == (people,)
        with pytest.raises(Problem) as refused:
            door.delete_subject("ada", collection=people)
    assert (refused.value.status, refused.value.code) == (403, "forbidden")
    listed = client.keys()
    assert issued.id in [key.id for key in listed]
    actions = [entry.action for entry in client.audit(key_id=issued.id)]
    assert "denied" in actions
    assert client.revoke_key(issued.id).id == issued.id
    assert client.verify_audit().intact
    assert b"key.revoke" in b"".join(client.export_audit())


def test_the_service_describes_itself(client: Client) -> None:
    assert client.ready().model == client.model().model == client.status().model
    assert "# TYPE" in client.metrics()
    calibration = client.model().calibration
    assert calibration is not None
    assert calibration.rows[0].fmr > 0


def test_problems_are_typed(client: Client, people: str, demo: Path) -> None:
    with pytest.raises(Problem) as missing:
        client.subject("nobody", collection=people)
    assert (missing.value.status, missing.value.code, missing.value.retry_after) == (404, "subject_not_found", None)
    with pytest.raises(Problem) as crowd:
        client.enrol("ada", demo / "010_2.jpg", collection=people)
    assert crowd.value.code == "multiple_faces"
    assert crowd.value.members["rejected"]
    with pytest.raises(Problem) as closed:
        client.detect(PhotoUrl("https://example.org/a.jpg"))
    assert closed.value.code == "urls_disabled"
    with pytest.raises(ValueError, match="empty"):
        client.delete_subject("", collection=people)
    with pytest.raises(FileNotFoundError):
        client.detect("missing.jpg")


def test_all_of_it_can_be_awaited(server: Server, demo: Path, people: str) -> None:
    async def visit() -> None:
        async with AsyncClient(server.address, ADMIN_KEY) as client:
            await asyncio.gather(
                client.enrol("ada", demo / "004_A.jpg", collection=people),
                client.enrol("bob", demo / "007_B.jpg", collection=people),
            )
            found = await client.identify(demo / "006_A.jpg", collection=people)
            assert found.faces[0].candidates[0].subject_id == "ada"
            assert {subject.subject_id async for subject in client.subjects(collection=people)} == {"ada", "bob"}
            exported = b"".join([piece async for piece in client.export(collection=people)])
            await client.delete_subject("ada", collection=people)
            report = await client.import_faces(iter([exported[:100], exported[100:]]), collection=people)
            assert (report.imported, report.skipped) == (1, 1)
            with pytest.raises(Problem, match="nobody"):
                await client.subject("nobody", collection=people)

    asyncio.run(visit())


def test_the_models_are_those_of_the_service(server: Server) -> None:
    schemas = httpx.get(f"{server.address}/openapi.json").json()["components"]["schemas"]
    compared = 0
    for name, kind in vars(answers).items():
        if not dataclasses.is_dataclass(kind) or name == "Page":
            continue
        schema = next(found for found in (MODELLED.get(name), f"{name}Answer", name) if found in schemas)
        ours = {field.name for field in dataclasses.fields(kind)}
        assert ours == set(schemas[schema]["properties"]) - LEFT_OUT.get(schema, set()), name
        compared += 1
    assert compared > 35
