-- Where a batch's rows arrive: tables of this session alone, empty again after each commit, columns as in `core.Rows`.
create temporary table staged_participants (like participants) on commit delete rows;
create temporary table staged_revocations (like revocations) on commit delete rows;
create temporary table staged_openings (
    pipeline int, opening bigint, transaction_id uuid, kind text, parties text[], opened_at bigint, deadline bigint,
    open_until bigint, finish_rule text
) on commit delete rows;
create temporary table staged_messages (like messages) on commit delete rows;
alter table staged_messages alter content type text;
create temporary table staged_endings (
    pipeline int, opening bigint, ending bigint, outcome text, ended_at bigint, waiting_on text[]
) on commit delete rows;
create temporary table staged_rejections (like rejections) on commit delete rows;
create temporary table staged_blocks (like blocks) on commit delete rows;
create temporary table staged_cuts (like cuts) on commit delete rows;
create temporary table staged_anchors (like anchors) on commit delete rows;
create temporary table staged_purges (
    pipeline int, position bigint, by_pipeline int, by_opening bigint
) on commit delete rows;
create temporary table staged_positions (like positions) on commit delete rows;
