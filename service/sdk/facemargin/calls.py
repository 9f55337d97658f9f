"""Every call that both clients have."""

from __future__ import annotations

from facemargin import administration, gallery, recognition
from facemargin.binding import Call, Entries, Pieces


class Calls:
    """The methods of `Client` and `AsyncClient`; the functions they name say what each takes and answers."""

    verify = Call(recognition.verify)
    identify = Call(recognition.identify)
    detect = Call(recognition.detect)
    embed = Call(recognition.embed)

    collections = Entries(gallery.collections)
    create_collection = Call(gallery.create_collection)
    collection = Call(gallery.collection)
    change_collection = Call(gallery.change_collection)
    delete_collection = Call(gallery.delete_collection)

    subjects = Entries(gallery.subjects)
    create_subject = Call(gallery.create_subject)
    subject = Call(gallery.subject)
    change_subject = Call(gallery.change_subject)
    merge_subject = Call(gallery.merge_subject)
    delete_subject = Call(gallery.delete_subject)

    enrol = Call(gallery.enrol)
    faces = Entries(gallery.faces)
    face = Call(gallery.face)
    crop = Call(gallery.crop)
    delete_face = Call(gallery.delete_face)

    import_faces = Call(administration.import_faces)
    import_photos = Call(administration.import_photos)
    export = Pieces(administration.export)
    jobs = Call(administration.jobs)
    job = Call(administration.job)
    cancel_job = Call(administration.cancel_job)

    keys = Call(administration.keys)
    own_key = Call(administration.own_key)
    create_key = Call(administration.create_key)
    revoke_key = Call(administration.revoke_key)

    audit = Entries(administration.audit)
    export_audit = Pieces(administration.export_audit)
    verify_audit = Call(administration.verify_audit)

    model = Call(administration.model)
    status = Call(administration.status)
    metrics = Call(administration.metrics)
    ready = Call(administration.ready)
