"""Examples of these calls for the OpenAPI document, by operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.api.examples import Example

_IMAGE_ID = "6b135f5b-a365-4522-b1f1-4c9ac2dd0728"
_PHOTO = "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="
_NAME = "Ada Lovelace"
_EXAMPLE = {"image_id": _IMAGE_ID, "subject": _NAME}
SEVERAL_IDS: dict[str, Any] = {"one": {"value": [_IMAGE_ID]}}
SEVERAL_DELETED: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"example": [_EXAMPLE]}}}}
_FACE = {"box": {"probability": 0.96321, "x_min": 548, "y_min": 295, "x_max": 1420, "y_max": 1368}}
_PREDICTION = {"subject": _NAME, "similarity": 0.97858}
_EMBEDDING = [0.062742, -0.023668]  # shortened
_COMPARED = {"result": [{"embedding": _EMBEDDING, "similarity": 0.97858}]}
_FILE = {"file": _PHOTO}

TAG = {"name": "compreface", "description": "CompreFace's calls, for its clients; errors are told as it tells them."}
EXAMPLES: Mapping[str, Example] = {
    "compreface_list_subjects": Example({"subjects": [_NAME]}),
    "compreface_add_subject": Example({"subject": _NAME}, {"subject": _NAME}),
    "compreface_rename_subject": Example({"updated": True}, {"subject": "Ada King"}),
    "compreface_delete_subject": Example({"subject": _NAME}),
    "compreface_delete_subjects": Example({"deleted": 12}),
    "compreface_add_example": Example(_EXAMPLE, _FILE),
    "compreface_list_examples": Example(
        {"faces": [_EXAMPLE], "page_number": 0, "page_size": 20, "total_pages": 1, "total_elements": 1}
    ),
    "compreface_delete_examples": Example({"deleted": 3}),
    "compreface_delete_example": Example(_EXAMPLE),
    "compreface_recognize": Example({"result": [{**_FACE, "subjects": [_PREDICTION]}]}, _FILE),
    "compreface_verify_example": Example({"result": [{**_FACE, "similarity": 0.97858}]}, _FILE),
    "compreface_verify": Example(
        {"result": [{"source_image_face": _FACE, "face_matches": [{**_FACE, "similarity": 0.97858}]}]},
        {"source_image": _PHOTO, "target_image": _PHOTO},
    ),
    "compreface_detect": Example({"result": [_FACE]}, _FILE),
    "compreface_recognize_embeddings": Example(
        {"result": [{"embedding": _EMBEDDING, "similarities": [_PREDICTION]}]}, {"embeddings": [_EMBEDDING]}
    ),
    "compreface_verify_embeddings": Example(_COMPARED, {"embeddings": [_EMBEDDING]}),
    "compreface_compare_embeddings": Example(_COMPARED, {"source": _EMBEDDING, "targets": [_EMBEDDING]}),
}
