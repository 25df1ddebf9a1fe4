-- Transactions as a regulator counts them: under the ISIN that the opening names, and by the status that the last
-- message of a finished one states, else as finished, timed out or open.
create view outcomes as
select
    t.pipeline,
    t.opening,
    t.transaction_id,
    t.kind,
    case when o.content ->> 'isin' ~ '^[A-Z]{2}[A-Z0-9]{9}[0-9]$' then o.content ->> 'isin' end as isin,
    o.content ->> 'currency' as currency,
    o.content ->> 'settlement_amount' as amount,
    case
        when t.outcome is null then 'open'
        when t.outcome = 'TIMED_OUT' then 'timed_out'
        when jsonb_typeof(e.content -> 'status') = 'string' and e.content ->> 'status' ~ '^[a-z][a-z_]{0,31}$'
            then e.content ->> 'status'
        else 'finished'
    end as outcome
from transactions t
join messages o on o.pipeline = t.pipeline and o.position = t.opening
left join messages e on e.pipeline = t.pipeline and e.position = t.ending;

create view figures as
select kind, isin, outcome, count(*) as transactions
from outcomes
group by kind, isin, outcome;

create view settled as
select isin, currency, sum(amount::numeric) as amount, count(*) as transactions
from outcomes
where outcome = 'settled' and isin is not null
  and currency ~ '^[A-Z]{3}$' and amount ~ '^[0-9]{1,18}(\.[0-9]{1,8})?$'
group by isin, currency;
