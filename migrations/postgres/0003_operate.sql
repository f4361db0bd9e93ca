-- All statements of an operation in one trip to the server, with what they wrote to the log. Their arguments come as three
-- lists, by type: `$1[n]` is argument n if that is a number, `$2[n]` if it is text, `$3[n]` if it is bytes. The first four say
-- who acts, as `acting` has it. It does what its caller may do himself, and no more.

CREATE FUNCTION operate(
    address text, request text, statements text[], numbers bigint[], texts text[], bytes bytea[]
)
RETURNS TABLE (seq bigint, at bigint, tenant text, kind text, target text, "user" text, effect text)
LANGUAGE plpgsql AS $$
DECLARE
    statement text;
    before bigint;
BEGIN
    SELECT coalesce(max(c.seq), 0) INTO before FROM changes c;
    PERFORM set_config('permcast.label', coalesce(texts[1], ''), true),
            set_config('permcast.session', coalesce(texts[2], ''), true),
            set_config('permcast.at', coalesce(numbers[3]::text, ''), true),
            set_config('permcast.summary', coalesce(texts[4], ''), true),
            set_config('permcast.mark', before::text, true),
            set_config('permcast.address', coalesce(address, ''), true),
            set_config('permcast.request', coalesce(request, ''), true);
    FOREACH statement IN ARRAY statements LOOP
        EXECUTE statement USING numbers, texts, bytes;
    END LOOP;
    RETURN QUERY SELECT c.seq, c.at, c.tenant, c.kind, c.target, c."user", c.effect FROM changes c
        WHERE c.seq > before ORDER BY c.seq;
END $$;
