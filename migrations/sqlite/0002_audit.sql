-- The audit trail: who did what to whom, when, from where, by which request, with before and after.
--
-- Like the change log it is written by triggers alone, so that a shell is in it, too (by 'sql'), and it is only added to.
-- What a shell could do to it all the same, with the triggers dropped, shows in the chain: permcast hashes each entry
-- together with the hash of the one before, soon after it was written.
--   * No entry holds a secret: of a password it says whether there is one, of keys what anybody may know.
--   * Who goes with his parent (a role's members, a tenant's users) has no entry of his own, as he has no row in the log.

ALTER TABLE acting ADD COLUMN address TEXT;     -- from where he acts
ALTER TABLE acting ADD COLUMN request TEXT;     -- by which request

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER,
    actor TEXT,
    address TEXT,
    request TEXT,
    action TEXT,
    tenant TEXT,
    target TEXT,
    before TEXT,                                -- JSON; NULL where there was nothing
    after TEXT                                  -- JSON; NULL where there is nothing any more
);
CREATE INDEX audit_tenant ON audit (tenant);
CREATE TABLE audit_chain (
    id INTEGER PRIMARY KEY,                     -- the entry's
    hash BLOB
);

CREATE TRIGGER audit_stays_update BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never altered');
END;
CREATE TRIGGER audit_stays_delete BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never altered');
END;
CREATE TRIGGER audit_stays_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never altered');
END;
CREATE TRIGGER audit_counts_up AFTER INSERT ON audit
WHEN NEW.id < 1 OR (NEW.id > 1 AND NOT EXISTS (SELECT 1 FROM audit WHERE id = NEW.id - 1)) BEGIN
    SELECT RAISE(ABORT, 'the audit trail counts up by one');
END;
CREATE TRIGGER audit_chain_stays_update BEFORE UPDATE ON audit_chain BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never altered');
END;
CREATE TRIGGER audit_chain_stays_delete BEFORE DELETE ON audit_chain BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never altered');
END;
CREATE TRIGGER audit_chain_stays_replace BEFORE INSERT ON audit_chain
WHEN EXISTS (SELECT 1 FROM audit_chain WHERE id = NEW.id) BEGIN
    SELECT RAISE(ABORT, 'the audit trail is never altered');
END;

-- The one way into it. What the canary does to its own bird, again and again, is a measurement.
CREATE VIEW trail AS SELECT action, tenant, target, before, after FROM audit;
CREATE TRIGGER trail_insert INSTEAD OF INSERT ON trail BEGIN
    INSERT INTO audit (at, actor, address, request, action, tenant, target, before, after)
    SELECT (SELECT now FROM clock), COALESCE(a.label, 'sql'), a.address, a.request,
           NEW.action, NEW.tenant, NEW.target, NEW.before, NEW.after
    FROM (SELECT 1) LEFT JOIN acting a
    WHERE NOT (a.label IS 'canary' AND NEW.tenant IS 'permcast-canary' AND NEW.action IN ('permission.granted', 'permission.taken'));
END;

-- Tenants and users.

CREATE TRIGGER audit_tenants_created AFTER INSERT ON tenants BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'tenant.created', NEW.name, NEW.name,
           NULL,
           json_object('description', NEW.description, 'status', NEW.status);
END;
CREATE TRIGGER audit_tenants_changed AFTER UPDATE OF description, status ON tenants WHEN NEW.description <> OLD.description OR NEW.status <> OLD.status BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'tenant.changed', NEW.name, NEW.name,
           json_object('description', OLD.description, 'status', OLD.status),
           json_object('description', NEW.description, 'status', NEW.status);
END;
CREATE TRIGGER audit_tenants_signed_out AFTER UPDATE OF sign_outs ON tenants WHEN NEW.sign_outs <> OLD.sign_outs BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'tenant.signed_out', NEW.name, NEW.name,
           NULL,
           NULL;
END;
CREATE TRIGGER audit_tenants_deleted BEFORE DELETE ON tenants BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'tenant.deleted', OLD.name, OLD.name,
           json_object('description', OLD.description, 'status', OLD.status),
           NULL;
END;
CREATE TRIGGER audit_users_created AFTER INSERT ON users BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'user.created', t.name, NEW.id,
           NULL,
           json_object('name', NEW.name, 'email', NEW.email, 'kind', NEW.kind, 'status', NEW.status,
               'password', json(CASE WHEN NEW.password IS NULL THEN 'false' ELSE 'true' END))
    FROM tenants t WHERE t.no = NEW.tenant;
END;
CREATE TRIGGER audit_users_changed AFTER UPDATE OF name, email, kind, status ON users WHEN NEW.name <> OLD.name OR NEW.email IS NOT OLD.email OR NEW.kind <> OLD.kind OR NEW.status <> OLD.status BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'user.changed', t.name, NEW.id,
           json_object('name', OLD.name, 'email', OLD.email, 'kind', OLD.kind, 'status', OLD.status,
               'password', json(CASE WHEN OLD.password IS NULL THEN 'false' ELSE 'true' END)),
           json_object('name', NEW.name, 'email', NEW.email, 'kind', NEW.kind, 'status', NEW.status,
               'password', json(CASE WHEN NEW.password IS NULL THEN 'false' ELSE 'true' END))
    FROM tenants t WHERE t.no = NEW.tenant;
END;
CREATE TRIGGER audit_users_password AFTER UPDATE OF password ON users WHEN NEW.password IS NOT OLD.password
 AND NOT EXISTS (SELECT 1 FROM acting WHERE rehashing = 1) BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'user.password', t.name, NEW.id,
           json_object('password', json(CASE WHEN OLD.password IS NULL THEN 'false' ELSE 'true' END)),
           json_object('password', json(CASE WHEN NEW.password IS NULL THEN 'false' ELSE 'true' END))
    FROM tenants t WHERE t.no = NEW.tenant;
END;
CREATE TRIGGER audit_users_signed_out AFTER UPDATE OF sign_outs ON users WHEN NEW.sign_outs <> OLD.sign_outs BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'user.signed_out', t.name, NEW.id,
           NULL,
           NULL
    FROM tenants t WHERE t.no = NEW.tenant;
END;
CREATE TRIGGER audit_users_deleted BEFORE DELETE ON users BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'user.deleted', t.name, OLD.id,
           json_object('name', OLD.name, 'email', OLD.email, 'kind', OLD.kind, 'status', OLD.status,
               'roles', (SELECT json_group_array(r.name) FROM user_roles g JOIN roles r ON r.no = g.role WHERE g.user = OLD.no),
               'permissions', (SELECT json_group_array(permission) FROM user_permissions WHERE user = OLD.no)),
           NULL
    FROM tenants t WHERE t.no = OLD.tenant;
END;
CREATE TRIGGER audit_identities_added AFTER INSERT ON identities BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'identity.added', t.name, u.id,
           NULL,
           json_object('issuer', NEW.issuer, 'subject', NEW.subject)
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_identities_moved_from AFTER UPDATE OF user ON identities WHEN NEW.user <> OLD.user BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'identity.removed', t.name, u.id,
           json_object('issuer', OLD.issuer, 'subject', OLD.subject),
           NULL
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
END;
CREATE TRIGGER audit_identities_moved_to AFTER UPDATE OF user ON identities WHEN NEW.user <> OLD.user BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'identity.added', t.name, u.id,
           NULL,
           json_object('issuer', NEW.issuer, 'subject', NEW.subject)
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_identities_removed AFTER DELETE ON identities BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'identity.removed', t.name, u.id,
           json_object('issuer', OLD.issuer, 'subject', OLD.subject),
           NULL
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
END;

-- Roles and grants.

CREATE TRIGGER audit_roles_created AFTER INSERT ON roles BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.created', t.name, NEW.name,
           NULL,
           json_object('description', NEW.description)
    FROM tenants t WHERE t.no = NEW.tenant;
END;
CREATE TRIGGER audit_roles_changed AFTER UPDATE OF description ON roles WHEN NEW.description <> OLD.description BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.changed', t.name, NEW.name,
           json_object('description', OLD.description),
           json_object('description', NEW.description)
    FROM tenants t WHERE t.no = NEW.tenant;
END;
CREATE TRIGGER audit_roles_deleted BEFORE DELETE ON roles BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.deleted', t.name, OLD.name,
           json_object('description', OLD.description,
               'permissions', (SELECT json_group_array(permission) FROM role_permissions WHERE role = OLD.no),
               'includes', (SELECT json_group_array(o.name) FROM role_includes i JOIN roles o ON o.no = i.other WHERE i.role = OLD.no)),
           NULL
    FROM tenants t WHERE t.no = OLD.tenant;
END;
CREATE TRIGGER audit_role_permissions_added AFTER INSERT ON role_permissions BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.permission_added', t.name, r.name,
           NULL,
           json_object('permission', NEW.permission)
    FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = NEW.role;
END;
CREATE TRIGGER audit_role_permissions_removed AFTER DELETE ON role_permissions BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.permission_removed', t.name, r.name,
           json_object('permission', OLD.permission),
           NULL
    FROM roles r JOIN tenants t ON t.no = r.tenant WHERE r.no = OLD.role;
END;
CREATE TRIGGER audit_role_includes_added AFTER INSERT ON role_includes BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.include_added', t.name, r.name,
           NULL,
           json_object('role', o.name)
    FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = NEW.other WHERE r.no = NEW.role;
END;
CREATE TRIGGER audit_role_includes_removed AFTER DELETE ON role_includes BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.include_removed', t.name, r.name,
           json_object('role', o.name),
           NULL
    FROM roles r JOIN tenants t ON t.no = r.tenant JOIN roles o ON o.no = OLD.other WHERE r.no = OLD.role;
END;
CREATE TRIGGER audit_user_roles_granted AFTER INSERT ON user_roles BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.granted', t.name, u.id,
           NULL,
           json_object('role', r.name, 'expires_at', NEW.expires_at)
    FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = NEW.role WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_user_roles_changed AFTER UPDATE OF expires_at ON user_roles WHEN NEW.expires_at IS NOT OLD.expires_at BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.granted', t.name, u.id,
           json_object('role', r.name, 'expires_at', OLD.expires_at),
           json_object('role', r.name, 'expires_at', NEW.expires_at)
    FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = NEW.role WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_user_roles_taken AFTER DELETE ON user_roles BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'role.taken', t.name, u.id,
           json_object('role', r.name, 'expires_at', OLD.expires_at),
           NULL
    FROM users u JOIN tenants t ON t.no = u.tenant JOIN roles r ON r.no = OLD.role WHERE u.no = OLD.user;
END;
CREATE TRIGGER audit_user_permissions_granted AFTER INSERT ON user_permissions BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'permission.granted', t.name, u.id,
           NULL,
           json_object('permission', NEW.permission, 'expires_at', NEW.expires_at)
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_user_permissions_changed AFTER UPDATE OF expires_at ON user_permissions WHEN NEW.expires_at IS NOT OLD.expires_at BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'permission.granted', t.name, u.id,
           json_object('permission', OLD.permission, 'expires_at', OLD.expires_at),
           json_object('permission', NEW.permission, 'expires_at', NEW.expires_at)
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_user_permissions_taken AFTER DELETE ON user_permissions BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'permission.taken', t.name, u.id,
           json_object('permission', OLD.permission, 'expires_at', OLD.expires_at),
           NULL
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
END;

-- Sessions. A refresh has no entry; one that was used again after its time ends the session.

CREATE TRIGGER audit_sessions_opened AFTER INSERT ON sessions BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'session.opened', t.name, u.id,
           NULL,
           json_object('session', NEW.id, 'address', NEW.address, 'user_agent', NEW.user_agent)
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_sessions_ended AFTER UPDATE OF ended_at ON sessions WHEN OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'session.ended', t.name, u.id,
           json_object('session', NEW.id, 'address', NEW.address),
           json_object('reason', COALESCE(NEW.ended_by, 'signed_out'))
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = NEW.user;
END;
CREATE TRIGGER audit_sessions_deleted AFTER DELETE ON sessions WHEN OLD.ended_at IS NULL AND OLD.expires_at > (SELECT now FROM clock) BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'session.ended', t.name, u.id,
           json_object('session', OLD.id, 'address', OLD.address),
           json_object('reason', 'signed_out')
    FROM users u JOIN tenants t ON t.no = u.tenant WHERE u.no = OLD.user;
END;

-- What bears on everyone.

CREATE TRIGGER audit_keys_created AFTER INSERT ON keys BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'key.created', NULL, NEW.kid,
           NULL,
           json_object('algorithm', NEW.algorithm, 'state', NEW.state, 'retire_at', NEW.retire_at);
END;
CREATE TRIGGER audit_keys_changed AFTER UPDATE ON keys BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'key.changed', NULL, NEW.kid,
           json_object('algorithm', OLD.algorithm, 'state', OLD.state, 'retire_at', OLD.retire_at),
           json_object('algorithm', NEW.algorithm, 'state', NEW.state, 'retire_at', NEW.retire_at);
END;
CREATE TRIGGER audit_keys_deleted AFTER DELETE ON keys BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'key.deleted', NULL, OLD.kid,
           json_object('algorithm', OLD.algorithm, 'state', OLD.state, 'retire_at', OLD.retire_at),
           NULL;
END;
CREATE TRIGGER audit_lockdown_begun AFTER INSERT ON lockdown BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'lockdown.begun', NEW.tenant, COALESCE(NEW.tenant, ''),
           NULL,
           json_object('retry_after_s', NEW.retry_after_s, 'until', NEW.until);
END;
CREATE TRIGGER audit_lockdown_changed AFTER UPDATE ON lockdown BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'lockdown.changed', NEW.tenant, COALESCE(NEW.tenant, ''),
           json_object('retry_after_s', OLD.retry_after_s, 'until', OLD.until),
           json_object('retry_after_s', NEW.retry_after_s, 'until', NEW.until);
END;
CREATE TRIGGER audit_lockdown_lifted AFTER DELETE ON lockdown BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'lockdown.lifted', OLD.tenant, COALESCE(OLD.tenant, ''),
           json_object('retry_after_s', OLD.retry_after_s, 'until', OLD.until),
           NULL;
END;
CREATE TRIGGER audit_everyone_signed_out AFTER UPDATE OF sign_outs ON meta WHEN NEW.sign_outs <> OLD.sign_outs BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'everyone.signed_out', NULL, '',
           NULL,
           NULL;
END;
CREATE TRIGGER audit_log_begun AFTER UPDATE OF epoch ON meta WHEN NEW.epoch <> OLD.epoch AND OLD.epoch <> '' BEGIN
    INSERT INTO trail (action, tenant, target, before, after)
    SELECT 'log.begun_anew', NULL, '',
           json_object('epoch', OLD.epoch),
           json_object('epoch', NEW.epoch);
END;
