-- The audit trail: who did what to whom, when, from where, by which request, with before and after; what it is, SQLite's
-- says. Its numbers follow one another in the order of commits, for who adds to it has the counter's row locked: permcast
-- from the start, all others at commit.

CREATE OR REPLACE VIEW acting AS SELECT
    1::bigint AS one,
    nullif(current_setting('permcast.label', true), '') AS label,
    nullif(current_setting('permcast.session', true), '') AS session,
    coalesce(nullif(current_setting('permcast.rehashing', true), '')::bigint, 0) AS rehashing,
    nullif(current_setting('permcast.summary', true), '') AS summary,
    nullif(current_setting('permcast.mark', true), '')::bigint AS mark,
    nullif(current_setting('permcast.at', true), '')::bigint AS at,
    nullif(current_setting('permcast.address', true), '') AS address,       -- from where he acts
    nullif(current_setting('permcast.request', true), '') AS request;       -- by which request
CREATE OR REPLACE FUNCTION acting_set() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('permcast.label', coalesce(NEW.label, ''), true),
            set_config('permcast.session', coalesce(NEW.session, ''), true),
            set_config('permcast.rehashing', coalesce(NEW.rehashing, 0)::text, true),
            set_config('permcast.summary', coalesce(NEW.summary, ''), true),
            set_config('permcast.mark', coalesce(NEW.mark::text, ''), true),
            set_config('permcast.at', coalesce(NEW.at::text, ''), true),
            set_config('permcast.address', coalesce(NEW.address, ''), true),
            set_config('permcast.request', coalesce(NEW.request, ''), true);
    RETURN NEW;
END $$;

CREATE TABLE audit (
    id bigint PRIMARY KEY,
    at bigint,
    actor text COLLATE "C",
    address text COLLATE "C",
    request text COLLATE "C",
    action text COLLATE "C",
    tenant text COLLATE "C",
    target text COLLATE "C",
    before text COLLATE "C",                    -- JSON; NULL where there was nothing
    after text COLLATE "C"                      -- JSON; NULL where there is nothing any more
);
CREATE INDEX audit_tenant ON audit (tenant, id);
CREATE TABLE audit_chain (
    id bigint PRIMARY KEY,                      -- the entry's
    hash bytea
);
-- Entries whose transaction has yet to commit. Nobody ever sees one.
CREATE TABLE audit_unnumbered (
    no bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at bigint,
    actor text,
    address text,
    request text,
    action text,
    tenant text,
    target text,
    before text,
    after text
);
CREATE FUNCTION audit_numbered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id IS DISTINCT FROM (SELECT coalesce(max(id), 0) + 1 FROM audit) THEN
        RAISE EXCEPTION 'the audit trail counts up by one' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION audit_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM counter FOR UPDATE;
    INSERT INTO audit (id, at, actor, address, request, action, tenant, target, before, after)
    SELECT coalesce(max(id), 0) + 1, NEW.at, NEW.actor, NEW.address, NEW.request, NEW.action, NEW.tenant, NEW.target,
           NEW.before, NEW.after FROM audit;
    DELETE FROM audit_unnumbered WHERE no = NEW.no;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_counts_up BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_numbered();
CREATE CONSTRAINT TRIGGER audit_unnumbered_at_commit AFTER INSERT ON audit_unnumbered DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_at_commit();
CREATE TRIGGER audit_unnumbered_stays BEFORE UPDATE ON audit_unnumbered
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit trail is never altered');
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit trail is never altered');
CREATE TRIGGER audit_stays_whole BEFORE TRUNCATE ON audit EXECUTE FUNCTION refuse('the audit trail is never altered');
CREATE TRIGGER audit_chain_stays BEFORE UPDATE OR DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit trail is never altered');
CREATE TRIGGER audit_chain_stays_whole BEFORE TRUNCATE ON audit_chain
    EXECUTE FUNCTION refuse('the audit trail is never altered');

-- The one way into it. What the canary does to its own bird, again and again, is a measurement.
CREATE FUNCTION note_audit(what text, of_tenant text, of_target text, was json, became json) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    a record;
    happened bigint;
BEGIN
    SELECT coalesce(label, 'sql') AS label, address, request INTO a FROM acting;
    IF a.label = 'canary' AND of_tenant = 'permcast-canary' AND what IN ('permission.granted', 'permission.taken') THEN
        RETURN;
    END IF;
    SELECT now INTO happened FROM clock;
    IF current_setting('permcast.numbering', true) IS DISTINCT FROM 'now' THEN
        INSERT INTO audit_unnumbered (at, actor, address, request, action, tenant, target, before, after)
        VALUES (happened, a.label, a.address, a.request, what, of_tenant, of_target, was::text, became::text);
    ELSE
        INSERT INTO audit (id, at, actor, address, request, action, tenant, target, before, after)
        SELECT coalesce(max(e.id), 0) + 1, happened, a.label, a.address, a.request, what, of_tenant, of_target,
               was::text, became::text FROM audit e;
    END IF;
END $$;
CREATE VIEW trail AS SELECT action, tenant, target, before, after FROM audit;
CREATE FUNCTION trail_noted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_audit(NEW.action, NEW.tenant, NEW.target, NEW.before::json, NEW.after::json);
    RETURN NEW;
END $$;
CREATE TRIGGER trail_insert INSTEAD OF INSERT ON trail FOR EACH ROW EXECUTE FUNCTION trail_noted();
-- A table that was emptied tells nobody's name.
CREATE FUNCTION audit_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_audit('table.emptied', NULL, TG_TABLE_NAME, NULL, NULL);
    RETURN NULL;
END $$;

-- Tenants and users.

CREATE FUNCTION audit_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('tenant.created', NEW.name, NEW.name,
            NULL,
            json_build_object('description', NEW.description, 'status', NEW.status));
        RETURN NULL;
    END IF;
    IF NEW.description <> OLD.description OR NEW.status <> OLD.status THEN
        PERFORM note_audit('tenant.changed', NEW.name, NEW.name,
            json_build_object('description', OLD.description, 'status', OLD.status),
            json_build_object('description', NEW.description, 'status', NEW.status));
    END IF;
    IF NEW.sign_outs <> OLD.sign_outs THEN
        PERFORM note_audit('tenant.signed_out', NEW.name, NEW.name,
            NULL,
            NULL);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_tenants AFTER INSERT OR UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION audit_tenants();
CREATE TRIGGER audit_tenants_truncated AFTER TRUNCATE ON tenants EXECUTE FUNCTION audit_truncated();
CREATE FUNCTION audit_tenants_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_audit('tenant.deleted', OLD.name, OLD.name,
        json_build_object('description', OLD.description, 'status', OLD.status),
        NULL);
    RETURN OLD;
END $$;
CREATE TRIGGER audit_tenants_deleted BEFORE DELETE ON tenants FOR EACH ROW EXECUTE FUNCTION audit_tenants_deleted();

CREATE FUNCTION audit_users() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('user.created', t.name, NEW.id,
            NULL,
            json_build_object('name', NEW.name, 'email', NEW.email, 'kind', NEW.kind, 'status', NEW.status, 'password', NEW.password IS NOT NULL))
        FROM tenants t WHERE t.no = NEW.tenant;
        RETURN NULL;
    END IF;
    IF NEW.name <> OLD.name OR NEW.email IS DISTINCT FROM OLD.email OR NEW.kind <> OLD.kind OR NEW.status <> OLD.status THEN
        PERFORM note_audit('user.changed', t.name, NEW.id,
            json_build_object('name', OLD.name, 'email', OLD.email, 'kind', OLD.kind, 'status', OLD.status, 'password', OLD.password IS NOT NULL),
            json_build_object('name', NEW.name, 'email', NEW.email, 'kind', NEW.kind, 'status', NEW.status, 'password', NEW.password IS NOT NULL))
        FROM tenants t WHERE t.no = NEW.tenant;
    END IF;
    IF NEW.password IS DISTINCT FROM OLD.password AND (SELECT rehashing FROM acting) = 0 THEN
        PERFORM note_audit('user.password', t.name, NEW.id,
            json_build_object('password', OLD.password IS NOT NULL),
            json_build_object('password', NEW.password IS NOT NULL))
        FROM tenants t WHERE t.no = NEW.tenant;
    END IF;
    IF NEW.sign_outs <> OLD.sign_outs THEN
        PERFORM note_audit('user.signed_out', t.name, NEW.id,
            NULL,
            NULL)
        FROM tenants t WHERE t.no = NEW.tenant;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_users AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION audit_users();
CREATE TRIGGER audit_users_truncated AFTER TRUNCATE ON users EXECUTE FUNCTION audit_truncated();
CREATE FUNCTION audit_users_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_audit('user.deleted', t.name, OLD.id,
        json_build_object('name', OLD.name, 'email', OLD.email, 'kind', OLD.kind, 'status', OLD.status,
            'roles', (SELECT json_group_array(r.name)::json FROM user_roles g JOIN roles r ON r.no = g.role WHERE g."user" = OLD.no),
            'permissions', (SELECT json_group_array(permission)::json FROM user_permissions WHERE "user" = OLD.no)),
        NULL)
    FROM tenants t WHERE t.no = OLD.tenant;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_users_deleted BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION audit_users_deleted();

CREATE FUNCTION audit_identities() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND (TG_OP = 'DELETE' OR NEW."user" <> OLD."user") THEN
        PERFORM note_audit('identity.removed', t.name, u.id,
            json_build_object('issuer', OLD.issuer, 'subject', OLD.subject),
            NULL)
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD."user";
    END IF;
    IF TG_OP <> 'DELETE' AND (TG_OP = 'INSERT' OR NEW."user" <> OLD."user") THEN
        PERFORM note_audit('identity.added', t.name, u.id,
            NULL,
            json_build_object('issuer', NEW.issuer, 'subject', NEW.subject))
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW."user";
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_identities AFTER INSERT OR UPDATE OR DELETE ON identities FOR EACH ROW EXECUTE FUNCTION audit_identities();
CREATE TRIGGER audit_identities_truncated AFTER TRUNCATE ON identities EXECUTE FUNCTION audit_truncated();

-- Roles and grants.

CREATE FUNCTION audit_roles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('role.created', t.name, NEW.name,
            NULL,
            json_build_object('description', NEW.description))
        FROM tenants t WHERE t.no = NEW.tenant;
    ELSIF NEW.description <> OLD.description THEN
        PERFORM note_audit('role.changed', t.name, NEW.name,
            json_build_object('description', OLD.description),
            json_build_object('description', NEW.description))
        FROM tenants t WHERE t.no = NEW.tenant;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_roles AFTER INSERT OR UPDATE ON roles FOR EACH ROW EXECUTE FUNCTION audit_roles();
CREATE TRIGGER audit_roles_truncated AFTER TRUNCATE ON roles EXECUTE FUNCTION audit_truncated();
CREATE FUNCTION audit_roles_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_audit('role.deleted', t.name, OLD.name,
        json_build_object('description', OLD.description,
            'permissions', (SELECT json_group_array(permission)::json FROM role_permissions WHERE role = OLD.no),
            'includes', (SELECT json_group_array(o.name)::json FROM role_includes i JOIN roles o ON o.no = i.other WHERE i.role = OLD.no)),
        NULL)
    FROM tenants t WHERE t.no = OLD.tenant;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_roles_deleted BEFORE DELETE ON roles FOR EACH ROW EXECUTE FUNCTION audit_roles_deleted();

CREATE FUNCTION audit_role_permissions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_audit('role.permission_removed', t.name, r.name,
            json_build_object('permission', OLD.permission),
            NULL)
        FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = OLD.role;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_audit('role.permission_added', t.name, r.name,
            NULL,
            json_build_object('permission', NEW.permission))
        FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = NEW.role;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_role_permissions AFTER INSERT OR DELETE ON role_permissions FOR EACH ROW EXECUTE FUNCTION audit_role_permissions();
CREATE TRIGGER audit_role_permissions_truncated AFTER TRUNCATE ON role_permissions EXECUTE FUNCTION audit_truncated();

CREATE FUNCTION audit_role_includes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_audit('role.include_removed', t.name, r.name,
            json_build_object('role', o.name),
            NULL)
        FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = OLD.other WHERE r.no = OLD.role;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_audit('role.include_added', t.name, r.name,
            NULL,
            json_build_object('role', o.name))
        FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = NEW.other WHERE r.no = NEW.role;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_role_includes AFTER INSERT OR DELETE ON role_includes FOR EACH ROW EXECUTE FUNCTION audit_role_includes();
CREATE TRIGGER audit_role_includes_truncated AFTER TRUNCATE ON role_includes EXECUTE FUNCTION audit_truncated();

CREATE FUNCTION audit_user_roles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('role.granted', t.name, u.id,
            NULL,
            json_build_object('role', r.name, 'expires_at', NEW.expires_at))
        FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = NEW.role WHERE u.no = NEW."user";
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM note_audit('role.taken', t.name, u.id,
            json_build_object('role', r.name, 'expires_at', OLD.expires_at),
            NULL)
        FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = OLD.role WHERE u.no = OLD."user";
    ELSIF NEW.expires_at IS DISTINCT FROM OLD.expires_at THEN
        PERFORM note_audit('role.granted', t.name, u.id,
            json_build_object('role', r.name, 'expires_at', OLD.expires_at),
            json_build_object('role', r.name, 'expires_at', NEW.expires_at))
        FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = NEW.role WHERE u.no = NEW."user";
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_user_roles AFTER INSERT OR UPDATE OR DELETE ON user_roles FOR EACH ROW EXECUTE FUNCTION audit_user_roles();
CREATE TRIGGER audit_user_roles_truncated AFTER TRUNCATE ON user_roles EXECUTE FUNCTION audit_truncated();

CREATE FUNCTION audit_user_permissions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('permission.granted', t.name, u.id,
            NULL,
            json_build_object('permission', NEW.permission, 'expires_at', NEW.expires_at))
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW."user";
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM note_audit('permission.taken', t.name, u.id,
            json_build_object('permission', OLD.permission, 'expires_at', OLD.expires_at),
            NULL)
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD."user";
    ELSIF NEW.expires_at IS DISTINCT FROM OLD.expires_at THEN
        PERFORM note_audit('permission.granted', t.name, u.id,
            json_build_object('permission', OLD.permission, 'expires_at', OLD.expires_at),
            json_build_object('permission', NEW.permission, 'expires_at', NEW.expires_at))
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW."user";
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_user_permissions AFTER INSERT OR UPDATE OR DELETE ON user_permissions FOR EACH ROW EXECUTE FUNCTION audit_user_permissions();
CREATE TRIGGER audit_user_permissions_truncated AFTER TRUNCATE ON user_permissions EXECUTE FUNCTION audit_truncated();

-- Sessions. A refresh has no entry; one that was used again after its time ends the session.

CREATE FUNCTION audit_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('session.opened', t.name, u.id,
            NULL,
            json_build_object('session', NEW.id, 'address', NEW.address, 'user_agent', NEW.user_agent))
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW."user";
    ELSIF TG_OP = 'UPDATE' AND OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL THEN
        PERFORM note_audit('session.ended', t.name, u.id,
            json_build_object('session', NEW.id, 'address', NEW.address),
            json_build_object('reason', coalesce(NEW.ended_by, 'signed_out')))
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW."user";
    ELSIF TG_OP = 'DELETE' AND OLD.ended_at IS NULL AND OLD.expires_at > (SELECT now FROM clock) THEN
        PERFORM note_audit('session.ended', t.name, u.id,
            json_build_object('session', OLD.id, 'address', OLD.address),
            json_build_object('reason', 'signed_out'))
        FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD."user";
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_sessions AFTER INSERT OR UPDATE OR DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION audit_sessions();
CREATE TRIGGER audit_sessions_truncated AFTER TRUNCATE ON sessions EXECUTE FUNCTION audit_truncated();

-- What bears on everyone.

CREATE FUNCTION audit_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('key.created', NULL, NEW.kid,
            NULL,
            json_build_object('algorithm', NEW.algorithm, 'state', NEW.state, 'retire_at', NEW.retire_at));
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM note_audit('key.changed', NULL, NEW.kid,
            json_build_object('algorithm', OLD.algorithm, 'state', OLD.state, 'retire_at', OLD.retire_at),
            json_build_object('algorithm', NEW.algorithm, 'state', NEW.state, 'retire_at', NEW.retire_at));
    ELSE
        PERFORM note_audit('key.deleted', NULL, OLD.kid,
            json_build_object('algorithm', OLD.algorithm, 'state', OLD.state, 'retire_at', OLD.retire_at),
            NULL);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_keys AFTER INSERT OR UPDATE OR DELETE ON keys FOR EACH ROW EXECUTE FUNCTION audit_keys();
CREATE TRIGGER audit_keys_truncated AFTER TRUNCATE ON keys EXECUTE FUNCTION audit_truncated();

CREATE FUNCTION audit_lockdown() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_audit('lockdown.begun', NEW.tenant, coalesce(NEW.tenant, ''),
            NULL,
            json_build_object('retry_after_s', NEW.retry_after_s, 'until', NEW.until));
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM note_audit('lockdown.changed', NEW.tenant, coalesce(NEW.tenant, ''),
            json_build_object('retry_after_s', OLD.retry_after_s, 'until', OLD.until),
            json_build_object('retry_after_s', NEW.retry_after_s, 'until', NEW.until));
    ELSE
        PERFORM note_audit('lockdown.lifted', OLD.tenant, coalesce(OLD.tenant, ''),
            json_build_object('retry_after_s', OLD.retry_after_s, 'until', OLD.until),
            NULL);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_lockdown AFTER INSERT OR UPDATE OR DELETE ON lockdown FOR EACH ROW EXECUTE FUNCTION audit_lockdown();
CREATE TRIGGER audit_lockdown_truncated AFTER TRUNCATE ON lockdown EXECUTE FUNCTION audit_truncated();

CREATE FUNCTION audit_meta() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.sign_outs <> OLD.sign_outs THEN
        PERFORM note_audit('everyone.signed_out', NULL, '',
            NULL,
            NULL);
    END IF;
    IF NEW.epoch <> OLD.epoch AND OLD.epoch <> '' THEN
        PERFORM note_audit('log.begun_anew', NULL, '',
            json_build_object('epoch', OLD.epoch),
            json_build_object('epoch', NEW.epoch));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_meta AFTER UPDATE ON meta FOR EACH ROW EXECUTE FUNCTION audit_meta();
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
