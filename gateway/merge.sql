-- What a batch changes. Rows that are there already are left alone, so that the same batch twice is the same as once.
insert into participants
select distinct on (participant) * from staged_participants order by participant, version desc
on conflict (participant) do update
set (version, admitted_at, legal_name, lei, bic, country, role, addresses, signing_keys, encryption_keys)
  = (excluded.version, excluded.admitted_at, excluded.legal_name, excluded.lei, excluded.bic, excluded.country,
     excluded.role, excluded.addresses, excluded.signing_keys, excluded.encryption_keys)
where participants.version < excluded.version;

insert into revocations select * from staged_revocations on conflict do nothing;

insert into transactions
    (pipeline, opening, transaction_id, kind, parties, opened_at, deadline, open_until, finish_rule)
select * from staged_openings on conflict do nothing;

insert into messages
select
    pipeline, position, transaction_id, sequence, message_id, sender, recipients, action, sent_at, at,
    directory_version, content_type,
    case when pg_input_is_valid(content, 'jsonb') then content::jsonb end,
    sealed, content_bytes, envelope_bytes
from staged_messages on conflict do nothing;

update transactions t
set ending = e.ending, outcome = e.outcome, ended_at = e.ended_at, waiting_on = e.waiting_on
from staged_endings e
where t.pipeline = e.pipeline and t.opening = e.opening;

-- What erasures name, whichever comes last: the message, the statement, its end, or word of who made it. A message keeps its
-- place; its id goes too, which is the digest of what was said and would confirm a guess.
insert into purges (pipeline, position, by_pipeline, by_opening)
select * from staged_purges on conflict do nothing;

delete from purges p
using transactions t, messages s, participants o
where not p.done and t.pipeline = p.by_pipeline and t.opening = p.by_opening
  and s.pipeline = p.by_pipeline and s.position = p.by_opening and o.participant = s.sender
  and (o.role <> 'OPERATOR' or t.outcome = 'TIMED_OUT');

with due as (
    select p.*
    from purges p
    join transactions t on t.pipeline = p.by_pipeline and t.opening = p.by_opening and t.outcome = 'FINISHED'
    join messages s on s.pipeline = p.by_pipeline and s.position = p.by_opening
    join participants o on o.participant = s.sender
    where not p.done
), purged as (
    update messages m
    set content = null, message_id = '', recipients = '{}', content_type = ''
    from due
    where m.pipeline = due.pipeline and m.position = due.position and not exists (
        select from transactions x
        where x.transaction_id = m.transaction_id and x.pipeline = m.pipeline and x.kind = 'erasure'
    )
    returning m.pipeline, m.position
)
update purges p set done = true
from purged, due
where (p.pipeline, p.position) = (purged.pipeline, purged.position)
  and (p.by_pipeline, p.by_opening) = (due.by_pipeline, due.by_opening);

insert into rejections select * from staged_rejections on conflict do nothing;
insert into blocks select * from staged_blocks on conflict do nothing;
insert into cuts select * from staged_cuts on conflict do nothing;
insert into anchors select * from staged_anchors on conflict do nothing;

-- A transaction is in the first block that covers its end, whichever of the two came first.
update transactions t
set block_height = (
    select c.height from cuts c
    where c.pipeline = t.pipeline and c.sequence >= t.ending order by c.sequence, c.height limit 1
)
from cuts newest
where newest.height = (select max(height) from blocks)
  and t.pipeline = newest.pipeline and t.ending <= newest.sequence and t.block_height is null;

insert into positions select * from staged_positions
on conflict (topic, partition) do update
set (sequence, chain, next_offset) = (excluded.sequence, excluded.chain, excluded.next_offset);
