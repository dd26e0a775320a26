"""The SQL tables of a gallery on a server, version by version.

A published version is never edited. A change is a new version. `{vector}` stands for the type of pgvector, qualified by
the schema that it is installed in. Embeddings and conditions are float32, little-endian, as in a gallery file; times
are kept to the second.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE migrations (
            version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now(), xvectors text NOT NULL
        )""",
        # One row. Whoever changes the gallery locks it first, so that revisions become visible in their order.
        """CREATE TABLE revision (
            single boolean PRIMARY KEY DEFAULT true CHECK (single), number bigint NOT NULL, removals bigint NOT NULL
        )""",
        "INSERT INTO revision (number, removals) VALUES (0, 0)",
        """CREATE TABLE systems (
            id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, fingerprint text NOT NULL UNIQUE
        )""",
        """CREATE TABLE speakers (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            changed bigint NOT NULL
        )""",
        "CREATE INDEX speakers_by_change ON speakers (changed, id)",
        """CREATE TABLE voiceprints (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            speaker bigint NOT NULL REFERENCES speakers (id) ON DELETE CASCADE,
            system integer NOT NULL REFERENCES systems (id),
            embedding bytea NOT NULL,
            duration_s double precision NOT NULL CHECK (duration_s > 0),
            enrolled_at timestamptz NOT NULL,
            expires_at timestamptz,
            consent text,
            condition bytea,
            added bigint NOT NULL
        )""",
        "ALTER TABLE voiceprints ALTER COLUMN embedding SET STORAGE EXTERNAL",
        "CREATE INDEX voiceprints_by_speaker ON voiceprints (speaker, system)",
        "CREATE INDEX voiceprints_by_system ON voiceprints (system, speaker)",
        "CREATE INDEX voiceprints_by_expiry ON voiceprints (expires_at) WHERE expires_at IS NOT NULL",
        """CREATE TABLE recordings (
            voiceprint bigint PRIMARY KEY REFERENCES voiceprints (id) ON DELETE CASCADE, audio bytea NOT NULL
        )""",
        "ALTER TABLE recordings ALTER COLUMN audio SET STORAGE EXTERNAL",
        # Names are not kept here: who is forgotten leaves a number.
        """CREATE TABLE audit (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT now(),
            role text NOT NULL DEFAULT session_user,
            application text NOT NULL DEFAULT current_setting('application_name'),
            action text NOT NULL,
            speaker bigint,
            voiceprints bigint NOT NULL
        )""",
        # The rows of speakers for one system and back-end. They cover the changes up to (revision, speaker), in the
        # order of speakers_by_change, and what had expired at as_of. radius and varies are those of the index.
        """CREATE TABLE search_spaces (
            id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            system integer NOT NULL REFERENCES systems (id) ON DELETE CASCADE,
            backend text NOT NULL,
            origin bytea,
            radius double precision,
            varies bytea,
            revision bigint NOT NULL DEFAULT -1,
            speaker bigint NOT NULL DEFAULT 0,
            as_of timestamptz NOT NULL,
            num_rows bigint NOT NULL DEFAULT 0,
            UNIQUE (system, backend)
        )""",
        """CREATE TABLE search_rows (
            space integer NOT NULL REFERENCES search_spaces (id) ON DELETE CASCADE,
            speaker bigint NOT NULL REFERENCES speakers (id) ON DELETE CASCADE,
            coordinates {vector} NOT NULL,
            PRIMARY KEY (space, speaker)
        )""",
        "ALTER TABLE search_rows ALTER COLUMN coordinates SET STORAGE PLAIN",
        "CREATE INDEX search_rows_by_speaker ON search_rows (speaker)",
        """CREATE FUNCTION count_search_rows() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
        BEGIN
            UPDATE search_spaces
            SET num_rows = num_rows + CASE TG_OP WHEN 'INSERT' THEN found.number ELSE -found.number END
            FROM (SELECT space, count(*) AS number FROM changed_rows GROUP BY space) AS found
            WHERE search_spaces.id = found.space;
            RETURN NULL;
        END $$""",
        """CREATE TRIGGER count_added AFTER INSERT ON search_rows REFERENCING NEW TABLE AS changed_rows
        FOR EACH STATEMENT EXECUTE FUNCTION count_search_rows()""",
        """CREATE TRIGGER count_removed AFTER DELETE ON search_rows REFERENCING OLD TABLE AS changed_rows
        FOR EACH STATEMENT EXECUTE FUNCTION count_search_rows()""",
    ),
)
