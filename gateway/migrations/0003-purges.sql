-- Messages whose content must go: those that a finished erasure of an operator's names. Its statement is on the firehose, so
-- a replay purges again what it has made again.
create table purges (
    pipeline    int     not null,
    position    bigint  not null,  -- firehose sequence of the message
    by_pipeline int     not null,
    by_opening  bigint  not null,  -- of the erasure
    done        boolean not null default false,
    primary key (pipeline, position, by_pipeline, by_opening)
);
create index purges_due on purges (by_pipeline, by_opening) where not done;
