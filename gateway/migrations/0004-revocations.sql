-- Which keys were revoked, by the directory version that did it; `participants` lists keys as the newest entry does.
create table revocations (
    version     bigint primary key,  -- of the directory
    participant text   not null,
    key_id      bytea  not null,     -- the first 16 bytes of SHA-256 of the public key
    reason      text   not null,
    admitted_at bigint not null
);
create index revocations_by_participant on revocations (participant);
