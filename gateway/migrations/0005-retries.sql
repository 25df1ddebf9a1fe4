-- From when on the same bytes may be sent again, where the refusal said so (RATE_LIMITED).
alter table rejections add column retry_at bigint;  -- ms since the Unix epoch
