"""Examples of requests and answers, for the OpenAPI document; tests hold them against the schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_AT = "2026-03-01T09:30:00Z"
_MODEL = "facemargin-s@3f9a0c1d2e4b"
_FACE_ID = "5b0a7c1e-9d2f-4f3a-8f51-0d6f4b1c2a3e"
_PHOTO = "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="
_TIMING = {"decode": 4.1, "detect": 9.8, "align": 0.4, "embed": 7.3, "total": 21.9}
_BOX = {"x": 412.5, "y": 180.2, "width": 148.0, "height": 196.4}
_SIZES = {"photos": [{"width": 1280, "height": 853}], "width": 1280, "height": 853}
_PLACE = {
    "box": _BOX,
    "landmarks": [
        {"x": 452.1, "y": 256.0},
        {"x": 520.7, "y": 254.9},
        {"x": 487.3, "y": 300.4},
        {"x": 458.8, "y": 331.2},
        {"x": 514.6, "y": 330.5},
    ],
    "detection_score": 0.87,
    "quality": 0.93,
}
_DETECTED = {"image": 0, **_PLACE, "reasons": []}
_COLLECTION = {
    "id": "staff",
    "name": "Staff",
    "metadata": {"site": "Lyon"},
    "subjects": 1,
    "faces": 2,
    "created_at": _AT,
}
_SUBJECT = {
    "subject_id": "ada.lovelace",
    "name": "Ada Lovelace",
    "metadata": {"team": "engines"},
    "faces": 2,
    "created_at": _AT,
}
_FACE = {
    "face_id": _FACE_ID,
    "box": _BOX,
    "detection_score": 0.87,
    "quality": 0.93,
    "source_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "crop": True,
    "model": _MODEL,
    "created_at": _AT,
}
_RECEIPT = {
    "collection": "staff",
    "subject_id": None,
    "face_id": None,
    "subjects_erased": 1,
    "faces_erased": 2,
    "gallery_revision": 118,
    "erased_at": _AT,
}
_JOB = {
    "job_id": "0d4f7b5e-2f0e-4d0b-9f0f-6a1c1f6a2b3c",
    "kind": "import_photos",
    "state": "running",
    "collection": "staff",
    "total": 300,
    "done": 120,
    "rejected": 2,
    "report": {},
    "created_at": _AT,
    "updated_at": _AT,
}
_KEY = {
    "id": "b3a9c7f2-6a55-4a0e-8f0b-1a2b3c4d5e6f",
    "name": "door camera",
    "role": "read",
    "prefix": "fm_0123",
    "collections": ["staff"],
    "expires_at": "2031-01-01T00:00:00Z",
    "created_at": _AT,
    "last_used_at": _AT,
}
_ENTRY = {
    "number": 812,
    "at": _AT,
    "key_id": "b3a9c7f2-6a55-4a0e-8f0b-1a2b3c4d5e6f",
    "actor": "door camera",
    "action": "subject.erase",
    "outcome": 200,
    "collection_key": 2,
    "collection_id": "staff",
    "subject_key": 41,
    "subject_id": None,
    "request_id": "4f2d8a1b9c3e",
    "details": {"faces": 2, "revision": 118},
}
_POLICY = {"far": 0.0001, "source": "calibration", "extrapolated": False}


@dataclass(frozen=True)
class Example:
    """What is sent as JSON, if anything, and what is answered on success."""

    answer: Mapping[str, Any]
    request: Mapping[str, Any] | None = None


_COLLECTION_CHANGE = {"name": "Staff", "metadata": {"site": "Lyon"}}
_SUBJECT_CHANGE = {"name": "Ada Lovelace", "metadata": {"team": "engines"}}

EXAMPLES: Mapping[str, Example] = {
    "healthz": Example({"status": "alive"}),
    "readyz": Example(
        {"status": "ready", "model": _MODEL, "detector": "facemargin-det@7c1d9e0f2a3b", "gallery_revision": 117}
    ),
    "model": Example(
        {
            "model": _MODEL,
            "detector": "facemargin-det@7c1d9e0f2a3b",
            "architecture": "mobilefacenet",
            "embedding_size": 512,
            "calibration": {
                "rows": [{"fmr": 0.001, "threshold": 0.31}, {"fmr": 0.0001, "threshold": 0.39}],
                "impostor_pairs": 4000000,
                "genuine_pairs": 60000,
                "slope": 21.4,
                "intercept": -7.1,
                "prior": 0.5,
                "data": "held-out identities",
            },
            "metrics": {"lfw": {"accuracy_mean": 0.993}},
        }
    ),
    "status": Example(
        {
            "version": "1.0.0",
            "model": _MODEL,
            "detector": "facemargin-det@7c1d9e0f2a3b",
            "uptime_s": 86400.5,
            "draining": False,
            "restart_needed": False,
            "gallery_revision": 117,
            "index_revision": 117,
            "collections": 2,
            "subjects": 41,
            "faces": 120,
            "index": [{"collection": "staff", "faces": 120, "subjects": 41, "kind": "flat", "snapshot_revision": 98}],
            "latency_ms": {"detect": {"p50": 9.8, "p95": 14.2}},
            "queue": {"photos": 0, "faces": 0},
        }
    ),
    "verify": Example(
        {
            "match": True,
            "similarity": 0.71,
            "probability": 0.9997,
            "threshold": 0.39,
            "threshold_policy": _POLICY,
            "source_face": {**_PLACE, "face_id": None},
            "faces": [
                {
                    "box": None,
                    "landmarks": None,
                    "detection_score": None,
                    "quality": None,
                    "face_id": _FACE_ID,
                    "similarity": 0.71,
                    "probability": 0.9997,
                    "match": True,
                }
            ],
            "model": _MODEL,
            "timing_ms": _TIMING,
        },
        {"source": _PHOTO, "target": {"face_id": _FACE_ID}, "far": 0.0001},
    ),
    "identify": Example(
        {
            "faces": [
                {
                    **_DETECTED,
                    "decision": "known",
                    "candidates": [
                        {
                            "subject_id": "ada.lovelace",
                            "name": "Ada Lovelace",
                            "face_id": _FACE_ID,
                            "similarity": 0.71,
                            "probability": 0.9997,
                        }
                    ],
                }
            ],
            "collection": "default",
            "subjects": 1,
            "threshold": 0.39,
            "threshold_policy": {**_POLICY, "far": 0.01},
            **_SIZES,
            "model": _MODEL,
            "timing_ms": _TIMING,
        },
        {"image": _PHOTO, "collection": "default", "top_k": 3, "far": 0.01},
    ),
    "detect": Example(
        {
            "faces": [_DETECTED],
            **_SIZES,
            "detector": "facemargin-det@7c1d9e0f2a3b",
            "timing_ms": {"decode": 4.1, "detect": 9.8, "align": 0.4, "total": 14.4},
        },
        {"image": [_PHOTO, _PHOTO], "max_faces": 10},
    ),
    "embed": Example(
        {
            "faces": [{**_DETECTED, "embedding": "zczMPc3MTD2amZm9"}],
            **_SIZES,
            "model": _MODEL,
            "embedding_size": 512,
            "timing_ms": _TIMING,
        },
        {"image": _PHOTO, "encoding": "base64"},
    ),
    "list_collections": Example({"collections": [_COLLECTION], "next_cursor": None}),
    "create_collection": Example({**_COLLECTION, "subjects": 0, "faces": 0}, _COLLECTION_CHANGE),
    "put_collection": Example({**_COLLECTION, "subjects": 0, "faces": 0}, _COLLECTION_CHANGE),
    "get_collection": Example(_COLLECTION),
    "patch_collection": Example(_COLLECTION, {"name": "Staff"}),
    "delete_collection": Example(_RECEIPT),
    "list_subjects": Example({"subjects": [_SUBJECT], "next_cursor": None}),
    "create_subject": Example({**_SUBJECT, "faces": 0}, _SUBJECT_CHANGE),
    "put_subject": Example({**_SUBJECT, "faces": 0}, _SUBJECT_CHANGE),
    "get_subject": Example(_SUBJECT),
    "patch_subject": Example(_SUBJECT, {"name": "Ada Lovelace"}),
    "merge_subject": Example(
        {**_SUBJECT, "faces": 3, "faces_moved": 1, "gallery_revision": 119}, {"into": "ada.lovelace"}
    ),
    "delete_subject": Example({**_RECEIPT, "subject_id": "ada.lovelace"}),
    "enrol_faces": Example(
        {
            "subject_id": "ada.lovelace",
            "indexed": [{"face_id": _FACE_ID, "image": 0, "box": _BOX, "quality": 0.93}],
            "rejected": [{"image": 1, "box": None, "reasons": ["no_face"]}],
            "gallery_revision": 117,
            "model": _MODEL,
        },
        {"image": [_PHOTO, _PHOTO], "face_policy": "single"},
    ),
    "list_faces": Example({"faces": [_FACE], "next_cursor": None}),
    "get_face": Example(_FACE),
    "delete_face": Example(
        {**_RECEIPT, "subject_id": "ada.lovelace", "face_id": _FACE_ID, "subjects_erased": 0, "faces_erased": 1}
    ),
    "import_into": Example(
        {
            "model": _MODEL,
            "imported": 1198,
            "skipped": 1,
            "rejected": 1,
            "subjects_created": 400,
            "complete": True,
            "gallery_revision": 1717,
            "errors": [{"line": 17, "reason": "the embedding is not of unit length"}],
            "errors_left_out": 0,
        }
    ),
    "list_jobs": Example({"jobs": [_JOB]}),
    "get_job": Example(_JOB),
    "cancel_job": Example({**_JOB, "state": "cancelled"}),
    "list_keys": Example({"keys": [_KEY]}),
    "get_own_key": Example(_KEY),
    "create_key": Example(
        {**_KEY, "last_used_at": None, "secret": "fm_0123456789abcdefghijklmnopqrstuvwxyzABCDEF"},
        {"name": "door camera", "role": "read", "collections": ["staff"], "expires_at": "2031-01-01T00:00:00Z"},
    ),
    "revoke_key": Example({**_KEY, "created_at": None, "last_used_at": None}),
    "list_audit": Example({"entries": [_ENTRY], "next_cursor": "YXVkaXQ6ODE"}),
    "verify_audit": Example(
        {
            "intact": True,
            "entries": 812,
            "broken_at": None,
            "reason": None,
            "head": {"number": 812, "digest": "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a"},
        }
    ),
}
"""By operation id. Routers may also give theirs where they declare the route."""
