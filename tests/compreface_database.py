"""A PostgreSQL database filled as CompreFace fills its own."""

from __future__ import annotations

import sqlalchemy as sa

FIRST, SECOND = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
# CompreFace 1.2, by its own change log (db.changelog-0.0.4 and -0.1.7).
SCHEMA = """
CREATE TABLE model (id bigint PRIMARY KEY, name varchar(255) NOT NULL, guid varchar(36) NOT NULL, app_id bigint,
    api_key varchar(36) NOT NULL UNIQUE, type varchar(1));
CREATE TABLE subject (id uuid PRIMARY KEY, api_key varchar(36), subject_name varchar(255),
    UNIQUE (api_key, subject_name));
CREATE TABLE img (id uuid PRIMARY KEY, content bytea NOT NULL);
CREATE TABLE embedding (id uuid PRIMARY KEY, subject_id uuid REFERENCES subject (id) ON DELETE CASCADE,
    embedding float8[] NOT NULL, calculator varchar(255) NOT NULL, img_id uuid REFERENCES img (id));
"""


def fill(url: str, services: dict[str, dict[str, list[bytes | None]]]) -> None:
    """Rows as CompreFace writes them: {API key: {subject: [photo, or None if it was not kept]}}."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS embedding, img, subject, model; {SCHEMA}")
        for number, (api_key, subjects) in enumerate(services.items()):
            row = {"id": number, "name": f"service {number}", "guid": api_key, "api_key": api_key}
            connection.execute(sa.text("INSERT INTO model VALUES (:id, :name, :guid, 0, :api_key, 'R')"), row)
            for name, photos in subjects.items():
                subject = {"api_key": api_key, "name": name}
                of = connection.scalar(
                    sa.text("INSERT INTO subject VALUES (gen_random_uuid(), :api_key, :name) RETURNING id"), subject
                )
                for photo in photos:
                    image = photo and connection.scalar(
                        sa.text("INSERT INTO img VALUES (gen_random_uuid(), :photo) RETURNING id"), {"photo": photo}
                    )
                    connection.execute(
                        sa.text("INSERT INTO embedding VALUES (gen_random_uuid(), :of, :numbers, 'facenet', :image)"),
                        {"of": of, "numbers": [0.1] * 512, "image": image},
                    )
    engine.dispose()
