-- By what a commit that was not answered is found again: each process that writes draws a number, counts its batches, and each
-- batch says here, in its own transaction, which one it is. The transaction's own number does not do: a server that crashes
-- before anything of a transaction is on its disk gives that number to another one afterwards.

CREATE TABLE writers (
    id bigint NOT NULL PRIMARY KEY,             -- drawn by the process
    batch bigint NOT NULL,                      -- its last batch that was committed
    asked bigint NOT NULL DEFAULT 0,            -- how often that was asked for
    at bigint NOT NULL                          -- when it was, by the server's clock
) WITH (fillfactor = 10);                       -- room for their next versions on the same page

-- The first statement of a batch: locks the log, and notes the batch. Who comes for the first time sweeps out those that have
-- not written for a week, which is longer than anybody waits for an answer.
CREATE FUNCTION begin_batch(writer bigint, number bigint, OUT epoch text) LANGUAGE plpgsql AS $$
BEGIN
    SELECT l.epoch INTO begin_batch.epoch FROM lock_log() l;
    UPDATE writers w SET batch = number, at = milliseconds() WHERE w.id = writer;
    IF NOT FOUND THEN
        DELETE FROM writers w WHERE w.at < milliseconds() - 7 * 86400000;
        INSERT INTO writers (id, batch, at) VALUES (writer, number, milliseconds());
    END IF;
END $$;

-- The last batch of a writer that was committed, if any was. It waits for one that is under way, behind the log's lock. It
-- writes, so that its own commit waits for whatever commits have to wait for: once it is answered, what it found lasts.
CREATE FUNCTION last_batch(writer bigint, OUT batch bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_log();
    UPDATE writers w SET asked = w.asked + 1 WHERE w.id = writer RETURNING w.batch INTO last_batch.batch;
END $$;
