-- The record as tables. Nothing here is the record itself: all of it can be dropped, and a replay of the topics makes it
-- again. Times are milliseconds since the Unix epoch, as on the wire; hashes have 32 bytes.
-- No table refers to another topic's: each topic is projected as far as it has been read.

create table positions (
    topic       text   not null,
    partition   int    not null,
    sequence    bigint not null,  -- how many events, versions, blocks or records are projected
    chain       bytea  not null,  -- chain hash, or header hash, of the last one; zeros where there is none
    next_offset bigint not null,
    primary key (topic, partition)
);

create table participants (
    participant     text    primary key,
    version         bigint  not null,  -- of the directory, that admitted this entry
    admitted_at     bigint  not null,
    legal_name      text    not null,
    lei             text,
    bic             text,
    country         text    not null,
    role            text    not null,
    addresses       text[]  not null,
    signing_keys    bytea[] not null,
    encryption_keys bytea[] not null
);

-- A transaction is told by the place of its opening: nothing but time keeps an id from being opened twice.
create table transactions (
    pipeline       int    not null,
    opening        bigint not null,  -- firehose sequence of its first event
    transaction_id uuid   not null,
    kind           text   not null,
    parties        text[] not null,
    opened_at      bigint not null,
    deadline       bigint not null,
    open_until     bigint not null,
    finish_rule    text   not null,
    ending         bigint,           -- firehose sequence of its last event; null while it is open
    outcome        text,
    ended_at       bigint,
    waiting_on     text[],           -- who was due when it timed out
    block_height   bigint,
    primary key (pipeline, opening)
);
create index transactions_by_id on transactions (transaction_id);
create index transactions_open on transactions (deadline) where ending is null;
create index transactions_unsealed on transactions (pipeline, ending) where block_height is null and ending is not null;
create index transactions_by_block on transactions (block_height);

create table messages (
    pipeline          int     not null,
    position          bigint  not null,  -- firehose sequence
    transaction_id    uuid    not null,
    sequence          int     not null,  -- within the transaction
    message_id        bytea   not null,
    sender            text    not null,
    recipients        text[]  not null,
    action            text    not null,
    sent_at           bigint  not null,  -- as the sender says
    at                bigint  not null,  -- as the broker says
    directory_version bigint  not null,
    content_type      text    not null,
    content           jsonb,             -- where it is clear and JSON
    sealed            boolean not null,  -- encrypted for its readers
    content_bytes     int     not null,
    envelope_bytes    int     not null,
    primary key (pipeline, position)
);
create index messages_by_transaction on messages (transaction_id, position);
create index messages_by_id on messages using hash (message_id);

create table rejections (
    position       bigint  primary key,  -- offset on `rejected`
    pipeline       int     not null,
    ingest_offset  bigint  not null,
    at             bigint  not null,
    message_id     bytea   not null,
    transaction_id uuid,
    sender         text,
    reason         text    not null,
    retriable      boolean not null,
    detail         text    not null
);

create table blocks (
    height            bigint primary key,
    hash              bytea  not null,
    previous          bytea  not null,
    root              bytea  not null,
    transactions      bigint not null,
    directory_records bigint not null,
    messages          bigint not null,
    size_bytes        bigint not null,
    sealed_at         bigint not null,
    directory_version bigint not null
);

-- Up to where a block covers each pipeline.
create table cuts (
    height   bigint not null,
    pipeline int    not null,
    sequence bigint not null,
    chain    bytea  not null,
    primary key (height, pipeline)
);
create index cuts_by_sequence on cuts (pipeline, sequence, height);

create table anchors (
    position         bigint primary key,  -- offset on `anchors`
    chain            text   not null,
    contract         text   not null,
    log_size         bigint not null,
    root             bytea  not null,
    state            text   not null,
    transaction_hash bytea  not null,
    block_number     bigint,
    confirmations    int    not null,
    at               bigint not null,
    detail           text   not null
);
create index anchors_by_size on anchors (log_size);
