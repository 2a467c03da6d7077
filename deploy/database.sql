-- The outbox of wsd: each row of wsd_outbox that a transaction commits is published once, and then deleted.
-- For PostgreSQL 14 and newer. Run it as the owner of the database, with psql; running it again changes nothing.
BEGIN;

CREATE TABLE IF NOT EXISTS "wsd_outbox" (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,   -- a channel, 'broadcast' for all clients, or '!' and a user id for the clients of one user
    data jsonb NOT NULL,
    idempotency_key text,    -- of rows with the same key in one channel, one is published within two minutes
    created_at timestamptz NOT NULL DEFAULT now(),
    error text               -- why wsd cannot publish the row. Set it to NULL to let wsd try again
)
-- Rows come and go: dead ones are to be removed by their number, not by their share.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE OR REPLACE FUNCTION "wsd_outbox_notify"() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify(TG_TABLE_NAME, ''); RETURN NULL; END $$;

CREATE OR REPLACE TRIGGER "wsd_outbox_notify" AFTER INSERT ON "wsd_outbox"
    FOR EACH STATEMENT EXECUTE FUNCTION "wsd_outbox_notify"();

-- The user of postgres.url. Give it a password: \password wsd_relay
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wsd_relay') THEN CREATE ROLE wsd_relay LOGIN; END IF;
END $$;
GRANT SELECT, DELETE, UPDATE (error) ON "wsd_outbox" TO wsd_relay;

-- The user of your application, where it is not the owner of the table:
-- GRANT INSERT ON wsd_outbox TO my_application;
COMMIT;

-- The archive of wsd: each message of the channels with `archive = true` is a row of wsd_archive.
-- The database must be in UTF-8.
BEGIN;

CREATE TABLE IF NOT EXISTS "wsd_archive" (
    channel text COLLATE "C" NOT NULL,
    run integer NOT NULL,          -- the number of the epoch in wsd_archive_epochs
    "offset" bigint NOT NULL,      -- the number of the message in its epoch
    message json,                  -- as clients got it; NULL: no message of wsd
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, run, "offset")
);
CREATE INDEX IF NOT EXISTS "wsd_archive_archived_at" ON "wsd_archive" (archived_at);

-- Offsets count the messages of an epoch from 1. A new epoch begins when Redis has lost the channel.
CREATE TABLE IF NOT EXISTS "wsd_archive_epochs" (
    channel text COLLATE "C" NOT NULL,
    epoch text COLLATE "C" NOT NULL,
    run integer NOT NULL,                     -- the epochs of a channel are numbered from 1
    archived_to bigint NOT NULL DEFAULT 0,    -- the last offset that was looked at
    lost bigint NOT NULL DEFAULT 0,           -- messages that Redis had forgotten before they were archived
    PRIMARY KEY (channel, epoch),
    UNIQUE (channel, run)
);

GRANT SELECT, INSERT, DELETE ON "wsd_archive" TO wsd_relay;
GRANT SELECT, INSERT, UPDATE, DELETE ON "wsd_archive_epochs" TO wsd_relay;

COMMIT;

-- The password comes from compose.yaml.
\getenv relay_password RELAY_PASSWORD
ALTER ROLE wsd_relay PASSWORD :'relay_password';
