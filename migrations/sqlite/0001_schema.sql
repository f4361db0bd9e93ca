-- permcast's schema for SQLite.
--
-- The change log is written by triggers alone, so that nobody who alters a permission, by whatever way, can do so without
-- a change. Triggers must run in the stock sqlite3 shell of old distributions, with its default settings (foreign keys
-- off, recursive triggers off). What follows from that:
--   * Tables of permissions are WITHOUT ROWID and their keys never change: there is no second name (rowid) by which a row
--     could be moved past a trigger.
--   * REPLACE deletes the row in its way without firing its delete trigger. So wherever that row may be another one than
--     the one written, or has children, a BEFORE trigger refuses it first.
--   * No foreign-key actions. A parent's AFTER DELETE trigger deletes the children; a child's trigger finds the names for
--     its log row by joining through its parents, and so logs nothing when they are gone: the end of a role with a hundred
--     thousand members is one row.
--   * The log has no constraint that such an insert could break: under OR IGNORE it would vanish and the change would not.
--   * Times are milliseconds since 1970.

-- What there is one of.
CREATE TABLE meta (
    one INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    epoch TEXT NOT NULL,                        -- this life of the log
    last_no INTEGER NOT NULL DEFAULT 0,         -- the last number given to a tenant, user or role; never given again
    sign_outs INTEGER NOT NULL DEFAULT 0,       -- count it up to end every session
    ended_before INTEGER NOT NULL DEFAULT 0     -- sessions begun before this position are over
) WITHOUT ROWID, STRICT;

INSERT INTO meta (epoch, last_no) VALUES ('', 1);  -- the epoch is drawn right after; number 1 is the first tenant's

-- Who acts in the present transaction, and in which operation. Set and cleared within one transaction of permcast's; no
-- one else ever sees it set, and a write without it is by 'sql'.
CREATE TABLE acting (
    one INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    label TEXT,
    session TEXT,                               -- his own session, which his new password does not end
    rehashing INTEGER NOT NULL DEFAULT 0,       -- the same password under other parameters, which ends no session
    summary TEXT,                               -- what the operation is called, where rows alone would not tell
    mark INTEGER,                               -- head of the log when the operation began
    at INTEGER                                  -- the time, where permcast's own clock gives it
) WITHOUT ROWID, STRICT;
INSERT INTO acting (one) VALUES (1);

CREATE VIEW clock AS
SELECT COALESCE((SELECT at FROM acting), CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)) AS now;

CREATE TABLE changes (
    seq INTEGER PRIMARY KEY,
    at INTEGER,
    actor TEXT,
    tenant TEXT,
    kind TEXT,
    target TEXT,
    user TEXT,
    effect TEXT,
    summary TEXT
);
CREATE INDEX changes_at ON changes (at);
CREATE INDEX changes_tenant ON changes (tenant);

-- Rows below `upto` may be deleted, the head never. Put a row in and take it out again within one transaction.
CREATE TABLE retention (
    one INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    upto INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TRIGGER changes_stay_update BEFORE UPDATE ON changes BEGIN
    SELECT RAISE(ABORT, 'the log is never altered');
END;
CREATE TRIGGER changes_stay_delete BEFORE DELETE ON changes
WHEN OLD.seq >= COALESCE((SELECT upto FROM retention), 0) OR OLD.seq = (SELECT MAX(seq) FROM changes) BEGIN
    SELECT RAISE(ABORT, 'the log is never altered');
END;
CREATE TRIGGER changes_stay_replace BEFORE INSERT ON changes
WHEN EXISTS (SELECT 1 FROM changes WHERE seq = NEW.seq) BEGIN
    SELECT RAISE(ABORT, 'the log is never altered');
END;
CREATE TRIGGER changes_count_up AFTER INSERT ON changes
WHEN NEW.seq < 1 OR (NEW.seq > 1 AND NOT EXISTS (SELECT 1 FROM changes WHERE seq = NEW.seq - 1)) BEGIN
    SELECT RAISE(ABORT, 'the log counts up by one');
END;

-- The one way into the log. Rows of one operation that say the same about the same thing one after another are one row.
CREATE VIEW log AS SELECT kind, tenant, target, user, effect, summary FROM changes;
CREATE TRIGGER log_insert INSTEAD OF INSERT ON log BEGIN
    INSERT INTO changes (at, actor, tenant, kind, target, user, effect, summary)
    SELECT (SELECT now FROM clock), COALESCE(a.label, 'sql'),
           NEW.tenant, NEW.kind, NEW.target, NEW.user, NEW.effect, COALESCE(a.summary, NEW.summary)
    FROM (SELECT 1) LEFT JOIN acting a
    WHERE NOT EXISTS (
        SELECT 1 FROM changes c
        WHERE c.seq = (SELECT MAX(seq) FROM changes) AND c.seq > a.mark
          AND NEW.effect = 'changed' AND c.effect = 'changed'
          AND c.kind = NEW.kind AND c.tenant IS NEW.tenant AND c.target IS NEW.target AND c.user IS NEW.user);
END;

CREATE TRIGGER meta_one BEFORE INSERT ON meta WHEN EXISTS (SELECT 1 FROM meta) BEGIN
    SELECT RAISE(ABORT, 'there is one row of this');
END;
CREATE TRIGGER meta_stays BEFORE DELETE ON meta BEGIN
    SELECT RAISE(ABORT, 'there is one row of this');
END;
CREATE TRIGGER meta_numbers BEFORE UPDATE OF one, last_no ON meta WHEN NEW.one <> OLD.one OR NEW.last_no < OLD.last_no BEGIN
    SELECT RAISE(ABORT, 'a number is never given again');
END;
CREATE TRIGGER meta_ended BEFORE UPDATE OF ended_before ON meta
WHEN NEW.ended_before <> OLD.ended_before AND (NEW.ended_before < OLD.ended_before OR NOT EXISTS (
    SELECT 1 FROM changes WHERE seq = NEW.ended_before AND kind = 'everyone' AND effect <> 'changed')) BEGIN
    SELECT RAISE(ABORT, 'count up sign_outs instead');
END;
CREATE TRIGGER meta_signed_out AFTER UPDATE OF sign_outs ON meta WHEN NEW.sign_outs <> OLD.sign_outs BEGIN
    INSERT INTO log (kind, effect, summary) VALUES ('everyone', 'keys_revoked', 'all sessions ended');
    UPDATE meta SET ended_before = (SELECT MAX(seq) FROM changes);
END;

CREATE TABLE tenants (
    name TEXT NOT NULL PRIMARY KEY CHECK (
        length(name) <= 63 AND name GLOB '[a-z0-9]*' AND name NOT GLOB '*[^a-z0-9_-]*'),
    no INTEGER UNIQUE,                          -- given by the database
    description TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    sign_outs INTEGER NOT NULL DEFAULT 0,       -- count it up to end all sessions of its users
    ended_before INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
) WITHOUT ROWID, STRICT;

INSERT INTO tenants (name, no) VALUES ('default', 1);

CREATE TABLE users (
    tenant INTEGER NOT NULL REFERENCES tenants (no),
    id TEXT NOT NULL CHECK (
        length(id) <= 128 AND id GLOB '[A-Za-z0-9_]*' AND id NOT GLOB '*[^A-Za-z0-9._@:|+-]*'),
    no INTEGER UNIQUE,                          -- given by the database
    name TEXT NOT NULL DEFAULT '',
    email TEXT,
    kind TEXT NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'service')),
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    password TEXT,
    sign_outs INTEGER NOT NULL DEFAULT 0,       -- count it up to end all of his sessions
    ended_before INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID, STRICT;
CREATE UNIQUE INDEX users_email ON users (tenant, email) WHERE email IS NOT NULL;

-- Ids that were deleted, kept free for a while; by the tenant's name, because a tenant may be made anew.
CREATE TABLE departed (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    left_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID, STRICT;
CREATE INDEX departed_left ON departed (left_at);

CREATE TABLE identities (
    tenant INTEGER NOT NULL REFERENCES tenants (no),
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user INTEGER NOT NULL REFERENCES users (no),
    PRIMARY KEY (tenant, issuer, subject)
) WITHOUT ROWID, STRICT;
CREATE INDEX identities_user ON identities (user);

CREATE TABLE roles (
    tenant INTEGER NOT NULL REFERENCES tenants (no),
    name TEXT NOT NULL CHECK (
        length(name) <= 63 AND name GLOB '[a-z0-9]*' AND name NOT GLOB '*[^a-z0-9._-]*'),
    no INTEGER UNIQUE,                          -- given by the database
    description TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID, STRICT;

CREATE TABLE role_permissions (
    role INTEGER NOT NULL REFERENCES roles (no),
    permission TEXT NOT NULL CHECK (permission <> '' AND permission NOT GLOB '*[^a-z0-9_.:*-]*'),
    PRIMARY KEY (role, permission)
) WITHOUT ROWID, STRICT;
CREATE INDEX role_permissions_operator ON role_permissions (role) WHERE permission = 'permcast:operator';

CREATE TABLE role_includes (
    role INTEGER NOT NULL REFERENCES roles (no),
    other INTEGER NOT NULL REFERENCES roles (no),
    PRIMARY KEY (role, other)
) WITHOUT ROWID, STRICT;
CREATE INDEX role_includes_other ON role_includes (other);

CREATE TABLE user_roles (
    user INTEGER NOT NULL REFERENCES users (no),
    role INTEGER NOT NULL REFERENCES roles (no),
    expires_at INTEGER,
    PRIMARY KEY (user, role)
) WITHOUT ROWID, STRICT;
CREATE INDEX user_roles_role ON user_roles (role);
CREATE INDEX user_roles_expiry ON user_roles (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE user_permissions (
    user INTEGER NOT NULL REFERENCES users (no),
    permission TEXT NOT NULL CHECK (permission <> '' AND permission NOT GLOB '*[^a-z0-9_.:*-]*'),
    expires_at INTEGER,
    PRIMARY KEY (user, permission)
) WITHOUT ROWID, STRICT;
CREATE INDEX user_permissions_operator ON user_permissions (user) WHERE permission = 'permcast:operator';
CREATE INDEX user_permissions_expiry ON user_permissions (expires_at) WHERE expires_at IS NOT NULL;

-- A session is over when `ended_at` is set, or when it began before `ended_before` of its user, its tenant or all.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES users (no),
    begun INTEGER NOT NULL,                     -- head of the log when it began
    refresh BLOB,                               -- digest of the current refresh token
    previous BLOB,                              -- digest of the one before
    issued_at INTEGER NOT NULL,                 -- when the current one was issued: the one before was first used then
    seen INTEGER NOT NULL,                      -- head of the log at the last refresh
    address TEXT NOT NULL DEFAULT '',
    user_agent TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    last_refresh_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,                -- when it is over unless it is refreshed before
    idle INTEGER,                               -- how long it lives without a refresh; NULL: as long as it lives at all
    ends_at INTEGER,                            -- beyond which no refresh carries it
    ended_at INTEGER,
    ended_by TEXT
) WITHOUT ROWID, STRICT;
-- Refresh tokens that were used, to tell theft from noise.
CREATE TABLE used_tokens (
    session TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (session, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX sessions_user ON sessions (user);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Sessions that are not over, with whose they are. Whether their time is up is for the reader to say.
CREATE VIEW standing_sessions AS
SELECT s.id, s.user, s.expires_at, t.name AS tenant_name, u.id AS user_id
FROM sessions s JOIN users u ON u.no = s.user JOIN tenants t ON t.no = u.tenant JOIN meta m
WHERE s.ended_at IS NULL
  AND s.begun >= u.ended_before AND s.begun >= t.ended_before AND s.begun >= m.ended_before
  AND u.status = 'active' AND t.status = 'active';

-- Tenants.

CREATE TRIGGER tenants_new BEFORE INSERT ON tenants BEGIN
    SELECT RAISE(ABORT, 'this tenant exists already') WHERE EXISTS (SELECT 1 FROM tenants WHERE name = NEW.name);
    SELECT RAISE(ABORT, 'numbers are given by the database') WHERE NEW.no IS NOT NULL;
END;
CREATE TRIGGER tenants_key BEFORE UPDATE OF name, no ON tenants
WHEN NEW.name <> OLD.name OR (OLD.no IS NOT NULL AND NEW.no IS NOT OLD.no) BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER tenants_ended BEFORE UPDATE OF ended_before ON tenants
WHEN NEW.ended_before <> OLD.ended_before AND (NEW.ended_before < OLD.ended_before OR NOT EXISTS (
    SELECT 1 FROM changes WHERE seq = NEW.ended_before AND kind = 'tenant' AND target = NEW.name AND effect <> 'changed')) BEGIN
    SELECT RAISE(ABORT, 'count up sign_outs instead');
END;
CREATE TRIGGER tenants_inserted AFTER INSERT ON tenants BEGIN
    UPDATE meta SET last_no = last_no + 1;
    UPDATE tenants SET no = (SELECT last_no FROM meta) WHERE name = NEW.name;
    INSERT INTO log (kind, tenant, target, effect, summary)
    VALUES ('tenant', NEW.name, NEW.name, 'changed', 'tenant ' || NEW.name || ' created');
END;
CREATE TRIGGER tenants_status AFTER UPDATE OF status ON tenants WHEN NEW.status <> OLD.status BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    VALUES ('tenant', NEW.name, NEW.name, CASE NEW.status WHEN 'suspended' THEN 'suspended' ELSE 'changed' END,
            'tenant ' || NEW.name || CASE NEW.status WHEN 'suspended' THEN ' suspended' ELSE ' activated' END);
    UPDATE tenants SET ended_before = (SELECT MAX(seq) FROM changes) WHERE name = NEW.name AND NEW.status = 'suspended';
END;
CREATE TRIGGER tenants_signed_out AFTER UPDATE OF sign_outs ON tenants WHEN NEW.sign_outs <> OLD.sign_outs BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    VALUES ('tenant', NEW.name, NEW.name, 'signed_out', 'all sessions of tenant ' || NEW.name || ' ended');
    UPDATE tenants SET ended_before = (SELECT MAX(seq) FROM changes) WHERE name = NEW.name;
END;
CREATE TRIGGER tenants_deleted AFTER DELETE ON tenants BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    VALUES ('tenant', OLD.name, OLD.name, 'deleted', 'tenant ' || OLD.name || ' deleted');
    DELETE FROM departed WHERE tenant = OLD.name AND id IN (SELECT id FROM users WHERE tenant = OLD.no);
    INSERT INTO departed (tenant, id, left_at)
    SELECT OLD.name, id, (SELECT now FROM clock) FROM users WHERE tenant = OLD.no;
    DELETE FROM users WHERE tenant = OLD.no;
    DELETE FROM roles WHERE tenant = OLD.no;
    DELETE FROM identities WHERE tenant = OLD.no;
    DELETE FROM lockdown WHERE tenant = OLD.name;
END;

-- Users.

CREATE TRIGGER users_new BEFORE INSERT ON users BEGIN
    SELECT RAISE(ABORT, 'there is no such tenant') WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE no = NEW.tenant);
    SELECT RAISE(ABORT, 'this user exists already')
    WHERE EXISTS (SELECT 1 FROM users WHERE tenant = NEW.tenant AND id = NEW.id);
    SELECT RAISE(ABORT, 'numbers are given by the database') WHERE NEW.no IS NOT NULL;
    SELECT RAISE(ABORT, 'this email is taken')
    WHERE NEW.email IS NOT NULL AND EXISTS (SELECT 1 FROM users WHERE tenant = NEW.tenant AND email = NEW.email);
END;
CREATE TRIGGER users_key BEFORE UPDATE OF tenant, id, no ON users
WHEN NEW.tenant <> OLD.tenant OR NEW.id <> OLD.id OR (OLD.no IS NOT NULL AND NEW.no IS NOT OLD.no) BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER users_email_taken BEFORE UPDATE OF email ON users
WHEN NEW.email IS NOT NULL AND NEW.email IS NOT OLD.email
 AND EXISTS (SELECT 1 FROM users WHERE tenant = NEW.tenant AND email = NEW.email) BEGIN
    SELECT RAISE(ABORT, 'this email is taken');
END;
CREATE TRIGGER users_ended BEFORE UPDATE OF ended_before ON users
WHEN NEW.ended_before <> OLD.ended_before AND (NEW.ended_before < OLD.ended_before OR NOT EXISTS (
    SELECT 1 FROM changes c JOIN tenants t ON t.name = c.tenant
    WHERE c.seq = NEW.ended_before AND t.no = NEW.tenant AND c.kind = 'user' AND c.target = NEW.id AND c.effect <> 'changed')) BEGIN
    SELECT RAISE(ABORT, 'count up sign_outs instead');
END;
CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN
    UPDATE meta SET last_no = last_no + 1;
    UPDATE users SET no = (SELECT last_no FROM meta) WHERE tenant = NEW.tenant AND id = NEW.id;
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', name, NEW.id, 'changed', 'user ' || NEW.id || ' created' FROM tenants WHERE no = NEW.tenant;
END;
CREATE TRIGGER users_status AFTER UPDATE OF status ON users WHEN NEW.status <> OLD.status BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', name, NEW.id, CASE NEW.status WHEN 'suspended' THEN 'suspended' ELSE 'changed' END,
           'user ' || NEW.id || CASE NEW.status WHEN 'suspended' THEN ' suspended' ELSE ' activated' END
    FROM tenants WHERE no = NEW.tenant;
    UPDATE users SET ended_before = (SELECT MAX(seq) FROM changes)
    WHERE tenant = NEW.tenant AND id = NEW.id AND NEW.status = 'suspended';
END;
CREATE TRIGGER users_kind AFTER UPDATE OF kind ON users WHEN NEW.kind <> OLD.kind BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', name, NEW.id, 'changed', 'user ' || NEW.id || ' made a ' || NEW.kind FROM tenants WHERE no = NEW.tenant;
END;
CREATE TRIGGER users_signed_out AFTER UPDATE OF sign_outs ON users WHEN NEW.sign_outs <> OLD.sign_outs BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', name, NEW.id, 'signed_out', 'all sessions of user ' || NEW.id || ' ended' FROM tenants WHERE no = NEW.tenant;
    UPDATE users SET ended_before = (SELECT MAX(seq) FROM changes) WHERE tenant = NEW.tenant AND id = NEW.id;
END;
-- A new password ends all of his sessions; but where he gives it to himself, not the one that he acts in.
CREATE TRIGGER users_password_by_another AFTER UPDATE OF password ON users
WHEN NEW.password IS NOT OLD.password AND NOT EXISTS (SELECT 1 FROM acting WHERE rehashing = 1)
 AND NOT EXISTS (SELECT 1 FROM acting a JOIN sessions s ON s.id = a.session WHERE s.user = NEW.no) BEGIN
    UPDATE users SET sign_outs = sign_outs + 1 WHERE tenant = NEW.tenant AND id = NEW.id;
END;
CREATE TRIGGER users_password_by_himself AFTER UPDATE OF password ON users
WHEN NEW.password IS NOT OLD.password
 AND EXISTS (SELECT 1 FROM acting a JOIN sessions s ON s.id = a.session WHERE s.user = NEW.no) BEGIN
    UPDATE sessions SET ended_at = (SELECT now FROM clock), ended_by = 'signed_out'
    WHERE user = NEW.no AND id <> (SELECT session FROM acting)
      AND id IN (SELECT id FROM standing_sessions WHERE user = NEW.no);
END;
CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', name, OLD.id, 'deleted', 'user ' || OLD.id || ' deleted' FROM tenants WHERE no = OLD.tenant;
    DELETE FROM departed WHERE id = OLD.id AND tenant = (SELECT name FROM tenants WHERE no = OLD.tenant);
    INSERT INTO departed (tenant, id, left_at)
    SELECT name, OLD.id, (SELECT now FROM clock) FROM tenants WHERE no = OLD.tenant;
    DELETE FROM user_roles WHERE user = OLD.no;
    DELETE FROM user_permissions WHERE user = OLD.no;
    DELETE FROM identities WHERE user = OLD.no;
    DELETE FROM sessions WHERE user = OLD.no;
END;

-- Identities: whoever signs in by one becomes that user.

CREATE TRIGGER identities_new BEFORE INSERT ON identities BEGIN
    SELECT RAISE(ABORT, 'this identity is taken') WHERE EXISTS (
        SELECT 1 FROM identities WHERE tenant = NEW.tenant AND issuer = NEW.issuer AND subject = NEW.subject);
    SELECT RAISE(ABORT, 'there is no such user in this tenant') WHERE NOT EXISTS (
        SELECT 1 FROM users WHERE no = NEW.user AND tenant = NEW.tenant);
END;
CREATE TRIGGER identities_key BEFORE UPDATE OF tenant, issuer, subject ON identities
WHEN NEW.tenant <> OLD.tenant OR NEW.issuer <> OLD.issuer OR NEW.subject <> OLD.subject BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER identities_moved_guard BEFORE UPDATE OF user ON identities
WHEN NOT EXISTS (SELECT 1 FROM users WHERE no = NEW.user AND tenant = NEW.tenant) BEGIN
    SELECT RAISE(ABORT, 'there is no such user in this tenant');
END;
CREATE TRIGGER identities_inserted AFTER INSERT ON identities BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'identity added to user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER identities_moved AFTER UPDATE OF user ON identities WHEN NEW.user <> OLD.user BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'identity taken from user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'identity added to user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER identities_deleted AFTER DELETE ON identities BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'identity taken from user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
END;

-- Roles.

CREATE TRIGGER roles_new BEFORE INSERT ON roles BEGIN
    SELECT RAISE(ABORT, 'there is no such tenant') WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE no = NEW.tenant);
    SELECT RAISE(ABORT, 'this role exists already')
    WHERE EXISTS (SELECT 1 FROM roles WHERE tenant = NEW.tenant AND name = NEW.name);
    SELECT RAISE(ABORT, 'numbers are given by the database') WHERE NEW.no IS NOT NULL;
END;
CREATE TRIGGER roles_key BEFORE UPDATE OF tenant, name, no ON roles
WHEN NEW.tenant <> OLD.tenant OR NEW.name <> OLD.name OR (OLD.no IS NOT NULL AND NEW.no IS NOT OLD.no) BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER roles_inserted AFTER INSERT ON roles BEGIN
    UPDATE meta SET last_no = last_no + 1;
    UPDATE roles SET no = (SELECT last_no FROM meta) WHERE tenant = NEW.tenant AND name = NEW.name;
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'role', name, NEW.name, 'changed', 'role ' || NEW.name || ' created' FROM tenants WHERE no = NEW.tenant;
END;
CREATE TRIGGER roles_deleted AFTER DELETE ON roles BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'role', name, OLD.name, 'changed', 'role ' || OLD.name || ' deleted' FROM tenants WHERE no = OLD.tenant;
    DELETE FROM role_permissions WHERE role = OLD.no;
    DELETE FROM role_includes WHERE role = OLD.no;
    DELETE FROM role_includes WHERE other = OLD.no;
    DELETE FROM user_roles WHERE role = OLD.no;
END;

CREATE TRIGGER role_permissions_new BEFORE INSERT ON role_permissions
WHEN NOT EXISTS (SELECT 1 FROM roles WHERE no = NEW.role) BEGIN
    SELECT RAISE(ABORT, 'there is no such role');
END;
CREATE TRIGGER role_permissions_key BEFORE UPDATE ON role_permissions
WHEN NEW.role <> OLD.role OR NEW.permission <> OLD.permission BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER role_permissions_inserted AFTER INSERT ON role_permissions BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'role', t.name, r.name, 'changed', 'permission ' || NEW.permission || ' added to role ' || r.name
    FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = NEW.role;
END;
CREATE TRIGGER role_permissions_deleted AFTER DELETE ON role_permissions BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'role', t.name, r.name, 'changed', 'permission ' || OLD.permission || ' removed from role ' || r.name
    FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = OLD.role;
END;

CREATE TRIGGER role_includes_new BEFORE INSERT ON role_includes
WHEN NOT EXISTS (SELECT 1 FROM roles r JOIN roles o ON o.tenant = r.tenant WHERE r.no = NEW.role AND o.no = NEW.other) BEGIN
    SELECT RAISE(ABORT, 'there are no such roles in one tenant');
END;
CREATE TRIGGER role_includes_key BEFORE UPDATE ON role_includes WHEN NEW.role <> OLD.role OR NEW.other <> OLD.other BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER role_includes_inserted AFTER INSERT ON role_includes BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'role', t.name, r.name, 'changed', 'role ' || o.name || ' included in role ' || r.name
    FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = NEW.other WHERE r.no = NEW.role;
END;
CREATE TRIGGER role_includes_deleted AFTER DELETE ON role_includes BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'role', t.name, r.name, 'changed', 'role ' || o.name || ' no longer included in role ' || r.name
    FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = OLD.other WHERE r.no = OLD.role;
END;

-- Grants.

CREATE TRIGGER user_roles_new BEFORE INSERT ON user_roles
WHEN NOT EXISTS (SELECT 1 FROM users u JOIN roles r ON r.tenant = u.tenant WHERE u.no = NEW.user AND r.no = NEW.role) BEGIN
    SELECT RAISE(ABORT, 'there are no such user and role in one tenant');
END;
CREATE TRIGGER user_roles_key BEFORE UPDATE OF user, role ON user_roles WHEN NEW.user <> OLD.user OR NEW.role <> OLD.role BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER user_roles_inserted AFTER INSERT ON user_roles BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'role ' || r.name || ' granted to user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = NEW.role WHERE u.no = NEW.user;
END;
CREATE TRIGGER user_roles_updated AFTER UPDATE OF expires_at ON user_roles WHEN NEW.expires_at IS NOT OLD.expires_at BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'role ' || r.name || ' granted to user ' || u.id || ' until another time'
    FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = NEW.role WHERE u.no = NEW.user;
END;
CREATE TRIGGER user_roles_deleted AFTER DELETE ON user_roles BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'role ' || r.name || ' taken from user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = OLD.role WHERE u.no = OLD.user;
END;

CREATE TRIGGER user_permissions_new BEFORE INSERT ON user_permissions
WHEN NOT EXISTS (SELECT 1 FROM users WHERE no = NEW.user) BEGIN
    SELECT RAISE(ABORT, 'there is no such user');
END;
CREATE TRIGGER user_permissions_key BEFORE UPDATE OF user, permission ON user_permissions
WHEN NEW.user <> OLD.user OR NEW.permission <> OLD.permission BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER user_permissions_inserted AFTER INSERT ON user_permissions BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'permission ' || NEW.permission || ' granted to user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER user_permissions_updated AFTER UPDATE OF expires_at ON user_permissions
WHEN NEW.expires_at IS NOT OLD.expires_at BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'permission ' || NEW.permission || ' granted to user ' || u.id || ' until another time'
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER user_permissions_deleted AFTER DELETE ON user_permissions BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'user', t.name, u.id, 'changed', 'permission ' || OLD.permission || ' taken from user ' || u.id
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
END;

-- Sessions.

CREATE TRIGGER sessions_new BEFORE INSERT ON sessions BEGIN
    SELECT RAISE(ABORT, 'this session exists already') WHERE EXISTS (SELECT 1 FROM sessions WHERE id = NEW.id);
    SELECT RAISE(ABORT, 'there is no such user') WHERE NOT EXISTS (SELECT 1 FROM users WHERE no = NEW.user);
END;
CREATE TRIGGER sessions_key BEFORE UPDATE OF id, user, begun ON sessions
WHEN NEW.id <> OLD.id OR NEW.user <> OLD.user OR NEW.begun <> OLD.begun BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER sessions_over BEFORE UPDATE OF ended_at ON sessions WHEN OLD.ended_at IS NOT NULL AND NEW.ended_at IS NULL BEGIN
    SELECT RAISE(ABORT, 'a session that is over stays over');
END;
CREATE TRIGGER sessions_ended AFTER UPDATE OF ended_at ON sessions WHEN OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL BEGIN
    INSERT INTO log (kind, tenant, target, user, effect, summary)
    SELECT 'session', t.name, NEW.id, u.id, COALESCE(NEW.ended_by, 'signed_out'), 'a session of user ' || u.id || ' ended'
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER sessions_forgotten AFTER DELETE ON sessions BEGIN
    DELETE FROM used_tokens WHERE session = OLD.id;
END;
CREATE TRIGGER sessions_deleted AFTER DELETE ON sessions WHEN OLD.ended_at IS NULL
 AND OLD.expires_at > (SELECT now FROM clock) BEGIN
    INSERT INTO log (kind, tenant, target, user, effect, summary)
    SELECT 'session', t.name, OLD.id, u.id, 'signed_out', 'a session of user ' || u.id || ' ended'
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
END;

-- Keys, lockdown, and what raises no floor.

CREATE TABLE keys (
    kid TEXT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    private BLOB NOT NULL,
    public BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('next', 'current', 'previous', 'retired')),
    created_at INTEGER NOT NULL,
    retire_at INTEGER
) WITHOUT ROWID, STRICT;
CREATE TRIGGER keys_new BEFORE INSERT ON keys WHEN EXISTS (SELECT 1 FROM keys WHERE kid = NEW.kid) BEGIN
    SELECT RAISE(ABORT, 'this key exists already');
END;
CREATE TRIGGER keys_key BEFORE UPDATE OF kid ON keys WHEN NEW.kid <> OLD.kid BEGIN
    SELECT RAISE(ABORT, 'a key never changes');
END;
CREATE TRIGGER keys_inserted AFTER INSERT ON keys BEGIN
    INSERT INTO log (kind, target, effect, summary) VALUES ('keys', '', 'changed', 'signing keys changed');
END;
CREATE TRIGGER keys_updated AFTER UPDATE ON keys BEGIN
    INSERT INTO log (kind, target, effect, summary) VALUES ('keys', '', 'changed', 'signing keys changed');
END;
CREATE TRIGGER keys_deleted AFTER DELETE ON keys BEGIN
    INSERT INTO log (kind, target, effect, summary) VALUES ('keys', '', 'changed', 'signing keys changed');
END;

CREATE TABLE lockdown (
    one INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    tenant TEXT,                                -- NULL: everyone
    retry_after_s INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER
) WITHOUT ROWID, STRICT;
CREATE TRIGGER lockdown_new BEFORE INSERT ON lockdown WHEN EXISTS (SELECT 1 FROM lockdown) BEGIN
    SELECT RAISE(ABORT, 'there is one lockdown at a time');
END;
CREATE TRIGGER lockdown_inserted AFTER INSERT ON lockdown BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    VALUES ('lockdown', NEW.tenant, '', 'changed', COALESCE('lockdown of tenant ' || NEW.tenant, 'lockdown of everyone'));
END;
CREATE TRIGGER lockdown_updated AFTER UPDATE ON lockdown BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    SELECT 'lockdown', OLD.tenant, '', 'changed', 'lockdown lifted' WHERE OLD.tenant IS NOT NEW.tenant;
    INSERT INTO log (kind, tenant, target, effect, summary)
    VALUES ('lockdown', NEW.tenant, '', 'changed', COALESCE('lockdown of tenant ' || NEW.tenant, 'lockdown of everyone'));
END;
CREATE TRIGGER lockdown_deleted AFTER DELETE ON lockdown BEGIN
    INSERT INTO log (kind, tenant, target, effect, summary)
    VALUES ('lockdown', OLD.tenant, '', 'changed', 'lockdown lifted');
END;

CREATE TABLE secrets (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE replicas (
    id TEXT NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    applied INTEGER NOT NULL,
    connections INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
