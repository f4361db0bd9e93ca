-- permcast's schema for PostgreSQL 15 and later: the tables of SQLite's, so that the same statements serve both.
--
-- The change log is written by triggers alone, so that nobody who alters a permission, by whatever way, can do so without
-- a change. They fire ALWAYS: `session_replication_role` does not turn them off. What is particular here:
--   * The order of `seq` is the order of commits: a number is drawn from the one row of `counter`, which stays locked until
--     the transaction ends. So who sees number 43 sees 42.
--   * permcast's own transactions lock that row first (`lock_log()`), so that what they decide by is what they change. In
--     anybody else's the rows of the log are put aside and numbered at commit, by a deferred trigger: a shell that idles in
--     a transaction keeps nobody waiting.
--   * No foreign keys. A parent's AFTER DELETE trigger deletes the children; a child's trigger finds the names for its log
--     row by joining through its parents, and so logs nothing when they are gone. A child that is put in while its parent
--     is deleted elsewhere gives nobody anything, for all that reads goes through the parents, and numbers are never
--     given again.
--   * Every TRUNCATE counts as a change of everyone.
--   * Text is ordered by its bytes. Times are milliseconds since 1970.
-- Run it in an empty schema that is first in the search path. It needs no right beyond creating things there.

-- What SQLite calls by these names, for values of the types that permcast uses.

CREATE FUNCTION json_each(list text, OUT value text) RETURNS SETOF text LANGUAGE sql IMMUTABLE STRICT AS
    $$ SELECT j #>> '{}' FROM json_array_elements(list::json) j $$;
CREATE FUNCTION json_extract(document text, path text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS
    $$ SELECT CASE WHEN path LIKE '$[%' THEN document::json ->> substr(path, 3, length(path) - 3)::integer
                   ELSE document::json ->> substr(path, 3) END $$;
CREATE FUNCTION json_of(list text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT array_to_json(list)::text $$;
CREATE FUNCTION json_of(list bigint[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT array_to_json(list)::text $$;
CREATE AGGREGATE json_group_array(text) (SFUNC = array_append, STYPE = text[], INITCOND = '{}', FINALFUNC = json_of);
CREATE AGGREGATE json_group_array(bigint) (SFUNC = array_append, STYPE = bigint[], INITCOND = '{}', FINALFUNC = json_of);

CREATE FUNCTION milliseconds() RETURNS bigint LANGUAGE sql VOLATILE AS
    $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- What a trigger refuses with. The rule stands in its argument.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'check_violation';
END $$;

-- What there is one of.
CREATE TABLE meta (
    one bigint NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    epoch text COLLATE "C" NOT NULL,            -- this life of the log
    sign_outs bigint NOT NULL DEFAULT 0,        -- count it up to end every session
    ended_before bigint NOT NULL DEFAULT 0      -- sessions begun before this position are over
);
INSERT INTO meta (epoch) VALUES ('');           -- the epoch is drawn right after

-- Numbers of tenants, users and roles; none is given twice. Number 1 is the first tenant's.
CREATE SEQUENCE numbers START 2;

-- The last number of the log. Locked by who writes to it until his transaction ends.
CREATE TABLE counter (
    one bigint NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    seq bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);                       -- room for its next versions on the same page
INSERT INTO counter DEFAULT VALUES;
CREATE TRIGGER counter_counts BEFORE UPDATE ON counter FOR EACH ROW
    WHEN (NEW.one <> OLD.one OR NEW.seq <> OLD.seq + 1) EXECUTE FUNCTION refuse('the log counts up by one');
CREATE TRIGGER counter_one BEFORE INSERT OR DELETE ON counter FOR EACH ROW EXECUTE FUNCTION refuse('there is one row of this');
CREATE TRIGGER counter_stays BEFORE TRUNCATE ON counter EXECUTE FUNCTION refuse('there is one row of this');

-- Who acts in the present transaction, and in which operation: settings that end with the transaction, read and set like
-- the row that SQLite has for it. A write without it is by 'sql'.
CREATE VIEW acting AS SELECT
    1::bigint AS one,
    nullif(current_setting('permcast.label', true), '') AS label,
    nullif(current_setting('permcast.session', true), '') AS session,       -- his own, which his new password does not end
    coalesce(nullif(current_setting('permcast.rehashing', true), '')::bigint, 0) AS rehashing,
    nullif(current_setting('permcast.summary', true), '') AS summary,       -- what the operation is called
    nullif(current_setting('permcast.mark', true), '')::bigint AS mark,     -- head of the log when it began
    nullif(current_setting('permcast.at', true), '')::bigint AS at;         -- the time, where permcast's clock gives it
CREATE FUNCTION acting_set() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('permcast.label', coalesce(NEW.label, ''), true),
            set_config('permcast.session', coalesce(NEW.session, ''), true),
            set_config('permcast.rehashing', coalesce(NEW.rehashing, 0)::text, true),
            set_config('permcast.summary', coalesce(NEW.summary, ''), true),
            set_config('permcast.mark', coalesce(NEW.mark::text, ''), true),
            set_config('permcast.at', coalesce(NEW.at::text, ''), true);
    RETURN NEW;
END $$;
CREATE TRIGGER acting_update INSTEAD OF UPDATE ON acting FOR EACH ROW EXECUTE FUNCTION acting_set();

CREATE VIEW clock AS SELECT coalesce((SELECT at FROM acting), milliseconds()) AS now;

CREATE TABLE changes (
    seq bigint PRIMARY KEY,
    at bigint,
    actor text COLLATE "C",
    tenant text COLLATE "C",
    kind text COLLATE "C",
    target text COLLATE "C",
    "user" text COLLATE "C",
    effect text COLLATE "C",
    summary text COLLATE "C"
);
CREATE INDEX changes_at ON changes (at);
CREATE INDEX changes_tenant ON changes (tenant, seq);

-- Rows below `upto` may be deleted, the head never. Put a row in and take it out again within one transaction.
CREATE TABLE retention (
    one bigint NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    upto bigint NOT NULL
);

CREATE FUNCTION changes_deletable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq >= coalesce((SELECT upto FROM retention), 0) OR OLD.seq = (SELECT seq FROM counter) THEN
        RAISE EXCEPTION 'the log is never altered' USING ERRCODE = 'check_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE FUNCTION changes_numbered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq IS DISTINCT FROM (SELECT seq FROM counter) THEN
        RAISE EXCEPTION 'the log counts up by one' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER changes_stay_update BEFORE UPDATE ON changes FOR EACH ROW EXECUTE FUNCTION refuse('the log is never altered');
CREATE TRIGGER changes_stay_delete BEFORE DELETE ON changes FOR EACH ROW EXECUTE FUNCTION changes_deletable();
CREATE TRIGGER changes_stay_truncate BEFORE TRUNCATE ON changes EXECUTE FUNCTION refuse('the log is never altered');
CREATE TRIGGER changes_count_up BEFORE INSERT ON changes FOR EACH ROW EXECUTE FUNCTION changes_numbered();

-- Rows of the log whose transaction has yet to commit: they get their numbers then. Nobody ever sees one.
CREATE TABLE unnumbered (
    no bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    actor text NOT NULL,
    tenant text,
    kind text,
    target text,
    "user" text,
    effect text,
    summary text,
    ends boolean NOT NULL                       -- whether it ends the sessions of whom it names
);

-- Numbers a row and writes it; what it ends is ended as of that number. The counter's row is locked from here on.
CREATE FUNCTION append_change(by text, of_kind text, of_tenant text, of_target text, of_user text, what text, called text,
    ends boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    given bigint;
BEGIN
    UPDATE counter SET seq = seq + 1 RETURNING seq INTO given;
    INSERT INTO changes (seq, at, actor, tenant, kind, target, "user", effect, summary)
    VALUES (given, (SELECT now FROM clock), by, of_tenant, of_kind, of_target, of_user, what, called);
    IF ends AND of_kind = 'everyone' THEN
        UPDATE meta SET ended_before = given;
    ELSIF ends AND of_kind = 'tenant' THEN
        UPDATE tenants SET ended_before = given WHERE name = of_target;
    ELSIF ends AND of_kind = 'user' THEN
        UPDATE users SET ended_before = given
        WHERE tenant = (SELECT no FROM tenants WHERE name = of_tenant) AND id = of_target;
    END IF;
END $$;

CREATE FUNCTION number_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM append_change(NEW.actor, NEW.kind, NEW.tenant, NEW.target, NEW."user", NEW.effect, NEW.summary, NEW.ends);
    DELETE FROM unnumbered WHERE no = NEW.no;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER unnumbered_at_commit AFTER INSERT ON unnumbered DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION number_at_commit();
CREATE TRIGGER unnumbered_stays BEFORE UPDATE ON unnumbered FOR EACH ROW EXECUTE FUNCTION refuse('the log is never altered');

-- For permcast's own transactions, as their first statement: from here on nobody else writes to the log, all that was
-- written to it is seen, and rows of it are numbered at once.
CREATE FUNCTION lock_log(OUT epoch text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM counter FOR UPDATE;
    PERFORM set_config('permcast.numbering', 'now', true);
    SELECT m.epoch INTO lock_log.epoch FROM meta m;
END $$;

-- The one way into the log. Rows of one operation that say the same about the same thing one after another are one row.
CREATE FUNCTION note_change(of_kind text, of_tenant text, of_target text, of_user text, what text, called text,
    ends boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a record;
BEGIN
    SELECT coalesce(label, 'sql') AS label, mark, coalesce(summary, called) AS summary INTO a FROM acting;
    IF current_setting('permcast.numbering', true) IS DISTINCT FROM 'now' THEN
        INSERT INTO unnumbered (actor, tenant, kind, target, "user", effect, summary, ends)
        VALUES (a.label, of_tenant, of_kind, of_target, of_user, what, a.summary, ends);
    ELSIF what IS DISTINCT FROM 'changed' OR NOT EXISTS (
        SELECT 1 FROM changes c
        WHERE c.seq = (SELECT seq FROM counter) AND c.seq > a.mark AND c.effect = 'changed' AND c.kind = of_kind
          AND c.tenant IS NOT DISTINCT FROM of_tenant AND c.target IS NOT DISTINCT FROM of_target
          AND c."user" IS NOT DISTINCT FROM of_user) THEN
        PERFORM append_change(a.label, of_kind, of_tenant, of_target, of_user, what, a.summary, ends);
    END IF;
END $$;

CREATE VIEW log AS SELECT kind, tenant, target, "user", effect, summary FROM changes;
CREATE FUNCTION log_noted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change(NEW.kind, NEW.tenant, NEW.target, NEW."user", NEW.effect, NEW.summary);
    RETURN NEW;
END $$;
CREATE TRIGGER log_insert INSTEAD OF INSERT ON log FOR EACH ROW EXECUTE FUNCTION log_noted();

-- A table that was emptied tells nobody's name.
CREATE FUNCTION truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('everyone', NULL, NULL, NULL, 'changed', TG_TABLE_NAME || ' emptied');
    RETURN NULL;
END $$;

CREATE FUNCTION meta_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ended_before < OLD.ended_before OR NOT EXISTS (
        SELECT 1 FROM changes WHERE seq = NEW.ended_before AND kind = 'everyone' AND effect <> 'changed') THEN
        RAISE EXCEPTION 'count up sign_outs instead' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION meta_signed_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('everyone', NULL, NULL, NULL, 'keys_revoked', 'all sessions ended', true);
    RETURN NULL;
END $$;
CREATE TRIGGER meta_one BEFORE INSERT OR DELETE ON meta FOR EACH ROW EXECUTE FUNCTION refuse('there is one row of this');
CREATE TRIGGER meta_stays BEFORE TRUNCATE ON meta EXECUTE FUNCTION refuse('there is one row of this');
CREATE TRIGGER meta_ended BEFORE UPDATE ON meta FOR EACH ROW
    WHEN (NEW.ended_before <> OLD.ended_before) EXECUTE FUNCTION meta_ended();
CREATE TRIGGER meta_signed_out AFTER UPDATE ON meta FOR EACH ROW
    WHEN (NEW.sign_outs <> OLD.sign_outs) EXECUTE FUNCTION meta_signed_out();

CREATE TABLE tenants (
    name text COLLATE "C" NOT NULL PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    no bigint NOT NULL UNIQUE,                  -- given by the database
    description text COLLATE "C" NOT NULL DEFAULT '',
    status text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    sign_outs bigint NOT NULL DEFAULT 0,        -- count it up to end all sessions of its users
    ended_before bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL DEFAULT milliseconds()
);
INSERT INTO tenants (name, no) VALUES ('default', 1);

CREATE TABLE users (
    tenant bigint NOT NULL,
    id text COLLATE "C" NOT NULL CHECK (id ~ '^[A-Za-z0-9_][A-Za-z0-9._@:|+-]{0,127}$'),
    no bigint NOT NULL UNIQUE,                  -- given by the database
    name text COLLATE "C" NOT NULL DEFAULT '',
    email text COLLATE "C",
    kind text COLLATE "C" NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'service')),
    status text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    password text COLLATE "C",
    sign_outs bigint NOT NULL DEFAULT 0,        -- count it up to end all of his sessions
    ended_before bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL DEFAULT milliseconds(),
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX users_email ON users (tenant, email) WHERE email IS NOT NULL;

-- Ids that were deleted, kept free for a while; by the tenant's name, because a tenant may be made anew.
CREATE TABLE departed (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    left_at bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX departed_left ON departed (left_at);

CREATE TABLE identities (
    tenant bigint NOT NULL,
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    "user" bigint NOT NULL,
    PRIMARY KEY (tenant, issuer, subject)
);
CREATE INDEX identities_user ON identities ("user");

CREATE TABLE roles (
    tenant bigint NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    no bigint NOT NULL UNIQUE,                  -- given by the database
    description text COLLATE "C" NOT NULL DEFAULT '',
    created_at bigint NOT NULL DEFAULT milliseconds(),
    PRIMARY KEY (tenant, name)
);

CREATE TABLE role_permissions (
    role bigint NOT NULL,
    permission text COLLATE "C" NOT NULL CHECK (permission ~ '^[a-z0-9_.:*-]+$'),
    PRIMARY KEY (role, permission)
);
CREATE INDEX role_permissions_operator ON role_permissions (role) WHERE permission = 'permcast:operator';

CREATE TABLE role_includes (
    role bigint NOT NULL,
    other bigint NOT NULL,
    PRIMARY KEY (role, other)
);
CREATE INDEX role_includes_other ON role_includes (other);

CREATE TABLE user_roles (
    "user" bigint NOT NULL,
    role bigint NOT NULL,
    expires_at bigint,
    PRIMARY KEY ("user", role)
);
CREATE INDEX user_roles_role ON user_roles (role);
CREATE INDEX user_roles_expiry ON user_roles (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE user_permissions (
    "user" bigint NOT NULL,
    permission text COLLATE "C" NOT NULL CHECK (permission ~ '^[a-z0-9_.:*-]+$'),
    expires_at bigint,
    PRIMARY KEY ("user", permission)
);
CREATE INDEX user_permissions_operator ON user_permissions ("user") WHERE permission = 'permcast:operator';
CREATE INDEX user_permissions_expiry ON user_permissions (expires_at) WHERE expires_at IS NOT NULL;

-- A session is over when `ended_at` is set, or when it began before `ended_before` of its user, its tenant or all.
CREATE TABLE sessions (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    "user" bigint NOT NULL,
    begun bigint NOT NULL,                      -- head of the log when it began
    refresh bytea,                              -- digest of the current refresh token
    previous bytea,                             -- digest of the one before
    issued_at bigint NOT NULL,                  -- when the current one was issued: the one before was first used then
    seen bigint NOT NULL,                       -- head of the log at the last refresh
    address text COLLATE "C" NOT NULL DEFAULT '',
    user_agent text COLLATE "C" NOT NULL DEFAULT '',
    created_at bigint NOT NULL,
    last_refresh_at bigint NOT NULL,
    expires_at bigint NOT NULL,                 -- when it is over unless it is refreshed before
    idle bigint,                                -- how long it lives without a refresh; NULL: as long as it lives at all
    ends_at bigint,                             -- beyond which no refresh carries it
    ended_at bigint,
    ended_by text COLLATE "C"
);
-- Refresh tokens that were used, to tell theft from noise.
CREATE TABLE used_tokens (
    session text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (session, digest)
);
CREATE INDEX sessions_user ON sessions ("user");
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Sessions that are not over, with whose they are. Whether their time is up is for the reader to say.
CREATE VIEW standing_sessions AS
SELECT s.id, s."user", s.expires_at, t.name AS tenant_name, u.id AS user_id
FROM sessions s JOIN users u ON u.no = s."user" JOIN tenants t ON t.no = u.tenant CROSS JOIN meta m
WHERE s.ended_at IS NULL
  AND s.begun >= u.ended_before AND s.begun >= t.ended_before AND s.begun >= m.ended_before
  AND u.status = 'active' AND t.status = 'active';

CREATE TABLE keys (
    kid text COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm text COLLATE "C" NOT NULL,
    private bytea NOT NULL,
    public bytea NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('next', 'current', 'previous', 'retired')),
    created_at bigint NOT NULL,
    retire_at bigint
);

CREATE TABLE lockdown (
    one bigint NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    tenant text COLLATE "C",                    -- NULL: everyone
    retry_after_s bigint NOT NULL,
    since bigint NOT NULL,
    until bigint
);

CREATE TABLE secrets (name text COLLATE "C" NOT NULL PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE settings (name text COLLATE "C" NOT NULL PRIMARY KEY, value text COLLATE "C" NOT NULL);
CREATE TABLE replicas (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    started_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    applied bigint NOT NULL,
    connections bigint NOT NULL
);

-- Tenants.

CREATE FUNCTION number_given() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.no IS NOT NULL THEN
        RAISE EXCEPTION 'numbers are given by the database' USING ERRCODE = 'check_violation';
    END IF;
    NEW.no := nextval('numbers');
    RETURN NEW;
END $$;
CREATE FUNCTION tenants_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_change('tenant', NEW.name, NEW.name, NULL, 'changed', 'tenant ' || NEW.name || ' created');
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' THEN
        IF NEW.status <> OLD.status AND NEW.status = 'suspended' THEN
            PERFORM note_change('tenant', NEW.name, NEW.name, NULL, 'suspended', 'tenant ' || NEW.name || ' suspended', true);
        ELSIF NEW.status <> OLD.status THEN
            PERFORM note_change('tenant', NEW.name, NEW.name, NULL, 'changed', 'tenant ' || NEW.name || ' activated');
        END IF;
        IF NEW.sign_outs <> OLD.sign_outs THEN
            PERFORM note_change('tenant', NEW.name, NEW.name, NULL, 'signed_out',
                'all sessions of tenant ' || NEW.name || ' ended', true);
        END IF;
        RETURN NULL;
    END IF;
    PERFORM note_change('tenant', OLD.name, OLD.name, NULL, 'deleted', 'tenant ' || OLD.name || ' deleted');
    INSERT INTO departed (tenant, id, left_at)
    SELECT OLD.name, id, (SELECT now FROM clock) FROM users WHERE tenant = OLD.no
    ON CONFLICT (tenant, id) DO UPDATE SET left_at = EXCLUDED.left_at;
    DELETE FROM users WHERE tenant = OLD.no;
    DELETE FROM roles WHERE tenant = OLD.no;
    DELETE FROM identities WHERE tenant = OLD.no;
    DELETE FROM lockdown WHERE tenant = OLD.name;
    RETURN NULL;
END $$;
CREATE FUNCTION tenants_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ended_before < OLD.ended_before OR NOT EXISTS (
        SELECT 1 FROM changes
        WHERE seq = NEW.ended_before AND kind = 'tenant' AND target = NEW.name AND effect <> 'changed') THEN
        RAISE EXCEPTION 'count up sign_outs instead' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tenants_new BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION number_given();
CREATE TRIGGER tenants_key BEFORE UPDATE ON tenants FOR EACH ROW
    WHEN (NEW.name <> OLD.name OR NEW.no <> OLD.no) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER tenants_ended BEFORE UPDATE ON tenants FOR EACH ROW
    WHEN (NEW.ended_before <> OLD.ended_before) EXECUTE FUNCTION tenants_ended();
CREATE TRIGGER tenants_logged AFTER INSERT OR UPDATE OR DELETE ON tenants FOR EACH ROW EXECUTE FUNCTION tenants_logged();
CREATE TRIGGER tenants_truncated AFTER TRUNCATE ON tenants EXECUTE FUNCTION truncated();

-- Users.

CREATE FUNCTION users_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM tenants WHERE no = NEW.tenant) THEN
        RAISE EXCEPTION 'there is no such tenant' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION users_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ended_before < OLD.ended_before OR NOT EXISTS (
        SELECT 1 FROM changes c JOIN tenants t ON t.name = c.tenant
        WHERE c.seq = NEW.ended_before AND t.no = NEW.tenant AND c.kind = 'user' AND c.target = NEW.id
          AND c.effect <> 'changed') THEN
        RAISE EXCEPTION 'count up sign_outs instead' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION users_logged() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place text;
    own text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT t.name INTO place FROM tenants t WHERE t.no = NEW.tenant;
        PERFORM note_change('user', place, NEW.id, NULL, 'changed', 'user ' || NEW.id || ' created');
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' THEN
        SELECT t.name INTO place FROM tenants t WHERE t.no = NEW.tenant;
        IF NEW.status <> OLD.status AND NEW.status = 'suspended' THEN
            PERFORM note_change('user', place, NEW.id, NULL, 'suspended', 'user ' || NEW.id || ' suspended', true);
        ELSIF NEW.status <> OLD.status THEN
            PERFORM note_change('user', place, NEW.id, NULL, 'changed', 'user ' || NEW.id || ' activated');
        END IF;
        IF NEW.kind <> OLD.kind THEN
            PERFORM note_change('user', place, NEW.id, NULL, 'changed', 'user ' || NEW.id || ' made a ' || NEW.kind);
        END IF;
        -- A new password ends all of his sessions; but where he gives it to himself, not the one that he acts in. The same
        -- under other parameters ends none.
        SELECT s.id INTO own FROM acting a JOIN sessions s ON s.id = a.session WHERE s."user" = NEW.no;
        IF NEW.password IS DISTINCT FROM OLD.password AND own IS NOT NULL THEN
            UPDATE sessions SET ended_at = (SELECT now FROM clock), ended_by = 'signed_out'
            WHERE "user" = NEW.no AND id <> own AND id IN (SELECT st.id FROM standing_sessions st WHERE st."user" = NEW.no);
        END IF;
        IF NEW.sign_outs <> OLD.sign_outs OR (NEW.password IS DISTINCT FROM OLD.password AND own IS NULL
                AND (SELECT rehashing FROM acting) = 0) THEN
            PERFORM note_change('user', place, NEW.id, NULL, 'signed_out', 'all sessions of user ' || NEW.id || ' ended', true);
        END IF;
        RETURN NULL;
    END IF;
    SELECT t.name INTO place FROM tenants t WHERE t.no = OLD.tenant;
    -- Without its tenant nobody is named: that tenant's end says all.
    IF place IS NOT NULL THEN
        PERFORM note_change('user', place, OLD.id, NULL, 'deleted', 'user ' || OLD.id || ' deleted');
        INSERT INTO departed (tenant, id, left_at) VALUES (place, OLD.id, (SELECT now FROM clock))
        ON CONFLICT (tenant, id) DO UPDATE SET left_at = EXCLUDED.left_at;
    END IF;
    DELETE FROM user_roles WHERE "user" = OLD.no;
    DELETE FROM user_permissions WHERE "user" = OLD.no;
    DELETE FROM identities WHERE "user" = OLD.no;
    DELETE FROM sessions WHERE "user" = OLD.no;
    RETURN NULL;
END $$;
CREATE TRIGGER users_new BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION users_new();
CREATE TRIGGER users_number BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION number_given();
CREATE TRIGGER users_key BEFORE UPDATE ON users FOR EACH ROW
    WHEN (NEW.tenant <> OLD.tenant OR NEW.id <> OLD.id OR NEW.no <> OLD.no) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER users_ended BEFORE UPDATE ON users FOR EACH ROW
    WHEN (NEW.ended_before <> OLD.ended_before) EXECUTE FUNCTION users_ended();
CREATE TRIGGER users_logged AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION users_logged();
CREATE TRIGGER users_truncated AFTER TRUNCATE ON users EXECUTE FUNCTION truncated();

-- Identities: whoever signs in by one becomes that user.

CREATE FUNCTION identities_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM users WHERE no = NEW."user" AND tenant = NEW.tenant) THEN
        RAISE EXCEPTION 'there is no such user in this tenant' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION note_identity(whose bigint, what text) RETURNS void LANGUAGE sql AS $$
    SELECT note_change('user', t.name, u.id, NULL, 'changed', what || u.id)
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = whose
$$;
CREATE FUNCTION identities_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_identity(OLD."user", 'identity taken from user ');
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_identity(NEW."user", 'identity added to user ');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER identities_new BEFORE INSERT OR UPDATE ON identities FOR EACH ROW EXECUTE FUNCTION identities_new();
CREATE TRIGGER identities_key BEFORE UPDATE ON identities FOR EACH ROW
    WHEN (NEW.tenant <> OLD.tenant OR NEW.issuer <> OLD.issuer OR NEW.subject <> OLD.subject)
    EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER identities_logged AFTER INSERT OR DELETE ON identities FOR EACH ROW EXECUTE FUNCTION identities_logged();
CREATE TRIGGER identities_moved AFTER UPDATE ON identities FOR EACH ROW
    WHEN (NEW."user" <> OLD."user") EXECUTE FUNCTION identities_logged();
CREATE TRIGGER identities_truncated AFTER TRUNCATE ON identities EXECUTE FUNCTION truncated();

-- Roles.

CREATE FUNCTION roles_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_change('role', t.name, NEW.name, NULL, 'changed', 'role ' || NEW.name || ' created')
        FROM tenants t WHERE t.no = NEW.tenant;
        RETURN NULL;
    END IF;
    PERFORM note_change('role', t.name, OLD.name, NULL, 'changed', 'role ' || OLD.name || ' deleted')
    FROM tenants t WHERE t.no = OLD.tenant;
    DELETE FROM role_permissions WHERE role = OLD.no;
    DELETE FROM role_includes WHERE role = OLD.no;
    DELETE FROM role_includes WHERE other = OLD.no;
    DELETE FROM user_roles WHERE role = OLD.no;
    RETURN NULL;
END $$;
CREATE TRIGGER roles_new BEFORE INSERT ON roles FOR EACH ROW EXECUTE FUNCTION users_new();
CREATE TRIGGER roles_number BEFORE INSERT ON roles FOR EACH ROW EXECUTE FUNCTION number_given();
CREATE TRIGGER roles_key BEFORE UPDATE ON roles FOR EACH ROW
    WHEN (NEW.tenant <> OLD.tenant OR NEW.name <> OLD.name OR NEW.no <> OLD.no) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER roles_logged AFTER INSERT OR DELETE ON roles FOR EACH ROW EXECUTE FUNCTION roles_logged();
CREATE TRIGGER roles_truncated AFTER TRUNCATE ON roles EXECUTE FUNCTION truncated();

CREATE FUNCTION role_permissions_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM roles WHERE no = NEW.role) THEN
        RAISE EXCEPTION 'there is no such role' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION role_permissions_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_change('role', t.name, r.name, NULL, 'changed',
            'permission ' || NEW.permission || ' added to role ' || r.name)
        FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = NEW.role;
    ELSE
        PERFORM note_change('role', t.name, r.name, NULL, 'changed',
            'permission ' || OLD.permission || ' removed from role ' || r.name)
        FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = OLD.role;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER role_permissions_new BEFORE INSERT ON role_permissions FOR EACH ROW EXECUTE FUNCTION role_permissions_new();
CREATE TRIGGER role_permissions_key BEFORE UPDATE ON role_permissions FOR EACH ROW
    WHEN (NEW.role <> OLD.role OR NEW.permission <> OLD.permission) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER role_permissions_logged AFTER INSERT OR DELETE ON role_permissions
    FOR EACH ROW EXECUTE FUNCTION role_permissions_logged();
CREATE TRIGGER role_permissions_truncated AFTER TRUNCATE ON role_permissions EXECUTE FUNCTION truncated();

CREATE FUNCTION role_includes_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM roles r JOIN roles o ON o.tenant = r.tenant WHERE r.no = NEW.role AND o.no = NEW.other) THEN
        RAISE EXCEPTION 'there are no such roles in one tenant' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION role_includes_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_change('role', t.name, r.name, NULL, 'changed', 'role ' || o.name || ' included in role ' || r.name)
        FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = NEW.other WHERE r.no = NEW.role;
    ELSE
        PERFORM note_change('role', t.name, r.name, NULL, 'changed',
            'role ' || o.name || ' no longer included in role ' || r.name)
        FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = OLD.other WHERE r.no = OLD.role;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER role_includes_new BEFORE INSERT ON role_includes FOR EACH ROW EXECUTE FUNCTION role_includes_new();
CREATE TRIGGER role_includes_key BEFORE UPDATE ON role_includes FOR EACH ROW
    WHEN (NEW.role <> OLD.role OR NEW.other <> OLD.other) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER role_includes_logged AFTER INSERT OR DELETE ON role_includes
    FOR EACH ROW EXECUTE FUNCTION role_includes_logged();
CREATE TRIGGER role_includes_truncated AFTER TRUNCATE ON role_includes EXECUTE FUNCTION truncated();

-- Grants.

CREATE FUNCTION user_roles_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM users u JOIN roles r ON r.tenant = u.tenant WHERE u.no = NEW."user" AND r.no = NEW.role) THEN
        RAISE EXCEPTION 'there are no such user and role in one tenant' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION user_roles_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM note_change('user', t.name, u.id, NULL, 'changed', 'role ' || r.name || ' taken from user ' || u.id)
        FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = OLD.role WHERE u.no = OLD."user";
    ELSE
        PERFORM note_change('user', t.name, u.id, NULL, 'changed', 'role ' || r.name || ' granted to user ' || u.id
            || CASE TG_OP WHEN 'UPDATE' THEN ' until another time' ELSE '' END)
        FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = NEW.role WHERE u.no = NEW."user";
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER user_roles_new BEFORE INSERT ON user_roles FOR EACH ROW EXECUTE FUNCTION user_roles_new();
CREATE TRIGGER user_roles_key BEFORE UPDATE ON user_roles FOR EACH ROW
    WHEN (NEW."user" <> OLD."user" OR NEW.role <> OLD.role) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER user_roles_logged AFTER INSERT OR DELETE ON user_roles FOR EACH ROW EXECUTE FUNCTION user_roles_logged();
CREATE TRIGGER user_roles_updated AFTER UPDATE ON user_roles FOR EACH ROW
    WHEN (NEW.expires_at IS DISTINCT FROM OLD.expires_at) EXECUTE FUNCTION user_roles_logged();
CREATE TRIGGER user_roles_truncated AFTER TRUNCATE ON user_roles EXECUTE FUNCTION truncated();

CREATE FUNCTION user_permissions_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM users WHERE no = NEW."user") THEN
        RAISE EXCEPTION 'there is no such user' USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION user_permissions_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM note_change('user', t.name, u.id, NULL, 'changed',
            'permission ' || OLD.permission || ' taken from user ' || u.id)
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD."user";
    ELSE
        PERFORM note_change('user', t.name, u.id, NULL, 'changed', 'permission ' || NEW.permission || ' granted to user '
            || u.id || CASE TG_OP WHEN 'UPDATE' THEN ' until another time' ELSE '' END)
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW."user";
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER user_permissions_new BEFORE INSERT ON user_permissions FOR EACH ROW EXECUTE FUNCTION user_permissions_new();
CREATE TRIGGER user_permissions_key BEFORE UPDATE ON user_permissions FOR EACH ROW
    WHEN (NEW."user" <> OLD."user" OR NEW.permission <> OLD.permission) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER user_permissions_logged AFTER INSERT OR DELETE ON user_permissions
    FOR EACH ROW EXECUTE FUNCTION user_permissions_logged();
CREATE TRIGGER user_permissions_updated AFTER UPDATE ON user_permissions FOR EACH ROW
    WHEN (NEW.expires_at IS DISTINCT FROM OLD.expires_at) EXECUTE FUNCTION user_permissions_logged();
CREATE TRIGGER user_permissions_truncated AFTER TRUNCATE ON user_permissions EXECUTE FUNCTION truncated();

-- Sessions.

CREATE FUNCTION note_session(whose bigint, session text, why text) RETURNS void LANGUAGE sql AS $$
    SELECT note_change('session', t.name, session, u.id, why, 'a session of user ' || u.id || ' ended')
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = whose
$$;
CREATE FUNCTION sessions_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_session(NEW."user", NEW.id, coalesce(NEW.ended_by, 'signed_out'));
    RETURN NULL;
END $$;
CREATE FUNCTION sessions_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM used_tokens WHERE session = OLD.id;
    IF OLD.ended_at IS NULL AND OLD.expires_at > (SELECT now FROM clock) THEN
        PERFORM note_session(OLD."user", OLD.id, 'signed_out');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sessions_new BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION user_permissions_new();
CREATE TRIGGER sessions_key BEFORE UPDATE ON sessions FOR EACH ROW
    WHEN (NEW.id <> OLD.id OR NEW."user" <> OLD."user" OR NEW.begun <> OLD.begun)
    EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER sessions_over BEFORE UPDATE ON sessions FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL AND NEW.ended_at IS NULL) EXECUTE FUNCTION refuse('a session that is over stays over');
CREATE TRIGGER sessions_ended AFTER UPDATE ON sessions FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION sessions_ended();
CREATE TRIGGER sessions_deleted AFTER DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION sessions_deleted();
CREATE TRIGGER sessions_truncated AFTER TRUNCATE ON sessions EXECUTE FUNCTION truncated();

-- Keys and lockdown, which raise no floor.

CREATE FUNCTION keys_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('keys', NULL, '', NULL, 'changed', 'signing keys changed');
    RETURN NULL;
END $$;
CREATE TRIGGER keys_key BEFORE UPDATE ON keys FOR EACH ROW
    WHEN (NEW.kid <> OLD.kid) EXECUTE FUNCTION refuse('a key never changes');
CREATE TRIGGER keys_logged AFTER INSERT OR UPDATE OR DELETE ON keys FOR EACH ROW EXECUTE FUNCTION keys_logged();
CREATE TRIGGER keys_truncated AFTER TRUNCATE ON keys EXECUTE FUNCTION keys_logged();

CREATE FUNCTION lockdown_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.tenant IS DISTINCT FROM NEW.tenant) THEN
        PERFORM note_change('lockdown', OLD.tenant, '', NULL, 'changed', 'lockdown lifted');
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_change('lockdown', NEW.tenant, '', NULL, 'changed',
            coalesce('lockdown of tenant ' || NEW.tenant, 'lockdown of everyone'));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION lockdown_emptied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('lockdown', NULL, '', NULL, 'changed', 'lockdown lifted');
    RETURN NULL;
END $$;
CREATE TRIGGER lockdown_logged AFTER INSERT OR UPDATE OR DELETE ON lockdown FOR EACH ROW EXECUTE FUNCTION lockdown_logged();
CREATE TRIGGER lockdown_truncated AFTER TRUNCATE ON lockdown EXECUTE FUNCTION lockdown_emptied();

-- Triggers fire whatever the session's replication role, and what they call means this schema, whatever the session's path.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT t.tgname, t.tgrelid::regclass AS relation FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND NOT t.tgisinternal
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', found.relation, found.tgname);
    END LOOP;
    FOR found IN
        SELECT p.oid::regprocedure AS function FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = current_schema()::regnamespace AND (l.lanname = 'plpgsql' OR p.proname LIKE 'note\_%')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', found.function, current_schema());
    END LOOP;
END $$;
