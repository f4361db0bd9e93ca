-- How a batch of permcast's is found again whose commit was not answered, and how the log is numbered.
--
-- Nothing here is a row that each transaction updates: as long as somebody reads in an old snapshot (a backup, a standby that
-- gives feedback) its former versions stay, and each update passes all of them; so it does within one transaction that writes
-- many rows of the log.

-- Each process that writes draws a number and counts its batches; each batch says here, in its own transaction, that it was
-- done. The transaction's own number does not do: a server that crashes before anything of a transaction is on its disk gives
-- that number to another one afterwards.
CREATE TABLE batches (
    writer bigint NOT NULL,                     -- drawn by the process
    number bigint NOT NULL,
    at bigint NOT NULL,                         -- by the server's clock
    PRIMARY KEY (writer, number)
);

-- The first statement of a batch: locks the log, and notes the batch. A hundred at a time are forgotten, long after anybody
-- could ask for them; and with a process's first, what those left behind that have not written for a week.
CREATE FUNCTION begin_batch(by bigint, given bigint, OUT epoch text) LANGUAGE plpgsql AS $$
BEGIN
    SELECT l.epoch INTO begin_batch.epoch FROM lock_log() l;
    INSERT INTO batches (writer, number, at) VALUES (by, given, milliseconds());
    IF given % 100 = 0 THEN
        DELETE FROM batches b WHERE b.writer = by AND b.number BETWEEN given - 1000 AND given - 100;
    ELSIF given = 1 THEN
        DELETE FROM batches b WHERE b.at < milliseconds() - 7 * 86400000;
    END IF;
END $$;

-- Whether that batch was committed. Waits for one that is under way, behind the log's lock. It writes, so that its own commit
-- waits for whatever commits have to wait for: once it is answered, what it found lasts.
CREATE FUNCTION find_batch(by bigint, given bigint, OUT done boolean) LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'this has to see what was committed while it waited' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM lock_log();
    UPDATE batches b SET at = milliseconds() WHERE b.writer = by AND b.number = given;
    done := FOUND;
END $$;

-- The row of `counter` is from now on the log's lock. The last number is that of the last row of the log, which is never deleted.
-- `counter.seq` counts how often rows were deleted before it, so that a transaction which sees no more than there was when it
-- began is told that it cannot go on: it might take one of theirs for the next. Whoever writes is waited for until he is done.
LOCK TABLE counter IN EXCLUSIVE MODE;
CREATE FUNCTION changes_pruned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE counter SET seq = seq + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER changes_pruned AFTER DELETE ON changes EXECUTE FUNCTION changes_pruned();
ALTER TABLE changes ENABLE ALWAYS TRIGGER changes_pruned;

CREATE OR REPLACE FUNCTION changes_deletable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq >= coalesce((SELECT upto FROM retention), 0) OR OLD.seq = (SELECT max(seq) FROM changes) THEN
        RAISE EXCEPTION 'the log is never altered' USING ERRCODE = 'check_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE OR REPLACE FUNCTION changes_numbered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM counter FOR UPDATE;
    IF NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), 0) + 1 FROM changes) THEN
        RAISE EXCEPTION 'the log counts up by one' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

-- Numbers a row and writes it; what it ends is ended as of that number. The log is locked from here on.
CREATE OR REPLACE FUNCTION append_change(by text, of_kind text, of_tenant text, of_target text, of_user text, what text,
    called text, ends boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    given bigint;
BEGIN
    PERFORM 1 FROM counter FOR UPDATE;
    SELECT coalesce(max(seq), 0) + 1 INTO given FROM changes;
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

-- At commit, the rows that were put aside are numbered. A transaction that sees no more than there was when it began cannot know
-- what is next where somebody else has written since.
CREATE FUNCTION number_change(aside unnumbered) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM append_change(aside.actor, aside.kind, aside.tenant, aside.target, aside."user", aside.effect, aside.summary, aside.ends);
    DELETE FROM unnumbered WHERE no = aside.no;
END $$;
CREATE FUNCTION number_entry(aside audit_unnumbered) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM counter FOR UPDATE;
    INSERT INTO audit (id, at, actor, address, request, action, tenant, target, before, after)
    SELECT coalesce(max(id), 0) + 1, aside.at, aside.actor, aside.address, aside.request, aside.action, aside.tenant, aside.target,
           aside.before, aside.after FROM audit;
    DELETE FROM audit_unnumbered WHERE no = aside.no;
END $$;
CREATE FUNCTION serialization_failed() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not serialize access due to concurrent changes' USING ERRCODE = 'serialization_failure';
END $$;
CREATE OR REPLACE FUNCTION number_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM number_change(NEW);
    ELSE
        BEGIN
            PERFORM number_change(NEW);
        EXCEPTION WHEN unique_violation THEN
            PERFORM serialization_failed();
        END;
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION audit_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM number_entry(NEW);
    ELSE
        BEGIN
            PERFORM number_entry(NEW);
        EXCEPTION WHEN unique_violation THEN
            PERFORM serialization_failed();
        END;
    END IF;
    RETURN NULL;
END $$;

-- Whether a row that can be seen was written by this transaction: whoever else's can be seen is not under way any more.
CREATE FUNCTION is_own(written_by xid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    this bigint := pg_current_xact_id()::text::bigint;
    -- A row has the lower half of a transaction's number.
    ahead bigint := ((written_by::text::bigint - this % 4294967296 + 6442450944) % 4294967296) - 2147483648;
BEGIN
    RETURN ahead >= 0 AND pg_xact_status((this + ahead)::text::xid8) = 'in progress';
EXCEPTION WHEN invalid_parameter_value THEN
    -- Half of all numbers ago: it reads like one that is yet to come.
    RETURN false;
END $$;

-- The one way into the log. Rows of one operation that say the same about the same thing one after another are one row.
CREATE OR REPLACE FUNCTION note_change(of_kind text, of_tenant text, of_target text, of_user text, what text, called text,
    ends boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a record;
    head record;
BEGIN
    SELECT coalesce(label, 'sql') AS label, mark, coalesce(summary, called) AS summary INTO a FROM acting;
    IF current_setting('permcast.numbering', true) IS DISTINCT FROM 'now' THEN
        INSERT INTO unnumbered (actor, tenant, kind, target, "user", effect, summary, ends)
        VALUES (a.label, of_tenant, of_kind, of_target, of_user, what, a.summary, ends);
        RETURN;
    END IF;
    IF what IS NOT DISTINCT FROM 'changed' THEN
        SELECT c.xmin AS written_by INTO head FROM changes c
        WHERE c.seq = (SELECT max(seq) FROM changes) AND c.seq > a.mark AND c.effect = 'changed' AND c.kind = of_kind
          AND c.tenant IS NOT DISTINCT FROM of_tenant AND c.target IS NOT DISTINCT FROM of_target
          AND c."user" IS NOT DISTINCT FROM of_user;
        IF FOUND AND is_own(head.written_by) THEN
            RETURN;
        END IF;
    END IF;
    PERFORM append_change(a.label, of_kind, of_tenant, of_target, of_user, what, a.summary, ends);
END $$;

-- What they call means this schema, whatever the session's path.
DO $$
DECLARE
    changed regproc;
BEGIN
    FOREACH changed IN ARRAY ARRAY['changes_pruned', 'changes_deletable', 'changes_numbered', 'append_change', 'number_change', 'number_entry',
        'serialization_failed', 'number_at_commit', 'audit_at_commit', 'is_own', 'note_change']::regproc[]
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', changed, current_schema());
    END LOOP;
END $$;
