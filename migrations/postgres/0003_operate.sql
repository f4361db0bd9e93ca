-- All statements of an operation in one trip to the server, with what they wrote to the log. Their arguments come as three
-- lists, by type: `$1[n]` is argument n if that is a number, `$2[n]` if it is text, `$3[n]` if it is bytes. It does what its
-- caller may do himself, and no more.

CREATE FUNCTION operate(statements text[], numbers bigint[], texts text[], bytes bytea[])
RETURNS TABLE (seq bigint, at bigint, tenant text, kind text, target text, "user" text, effect text)
LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        EXECUTE statement USING numbers, texts, bytes;
    END LOOP;
    RETURN QUERY SELECT c.seq, c.at, c.tenant, c.kind, c.target, c."user", c.effect FROM changes c
        WHERE c.seq > (SELECT a.mark FROM acting a) ORDER BY c.seq;
END $$;
