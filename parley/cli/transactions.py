"""``parley tx``: one transaction, told line by line, from a block store or from the firehose; and proofs out of a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from parley.blocks import BlockStore, from_folder, purged, sealed_event
from parley.cli.options import (
    DEFAULT_PROFILE,
    Json,
    PasswordFile,
    ProfileFile,
    profile_of,
    read_file,
    read_log_key,
    reader_of,
    write_file,
)
from parley.cli.output import complain, show_json
from parley.cli.signing import Signed, asks, mentions, show_signed, signed_for
from parley.cli.telling import Teller, purged_line, purged_row
from parley.directory import Directory
from parley.erasure import statement_on
from parley.errors import ParleyError, ProofError, VerificationError
from parley.events import prove_spoken, read_spoken
from parley.history import granted_to, is_private, learn, sealed_events
from parley.identifiers import parse_transaction_id, transaction_text
from parley.lookup import Lookup
from parley.profile import Profile
from parley.proof import make_proof
from parley.reading import Reader
from parley.schemas import FirehoseEvent, TransactionId, decode

__all__ = ["Store", "StoreKey", "open_store", "register"]

Store = Annotated[
    Path | None, typer.Option("--store", help="Read from this block store instead of the firehose.")
]
StoreKey = Annotated[
    Path | None, typer.Option("--log-key", help="File with the log's verifier key, for --store.")
]


def register(app: typer.Typer) -> None:
    tx = typer.Typer(help="Look at one transaction.", no_args_is_help=True)
    tx.command("show")(show_transaction)
    tx.command("prove")(prove)
    app.add_typer(tx, name="tx")


def show_transaction(
    transaction: Annotated[str, typer.Argument(help="The transaction's id.")],
    store: Store = None,
    log_key: StoreKey = None,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Tell a transaction line by line: who said what when, how it ended, and in which block it stands.

    Who signed for a message that asked for it is told too, as far as the record is at hand.

    What is private is decrypted with the profile's keystore, as far as a key to it was granted or disclosed to us.
    """
    identity = parse_transaction_id(transaction)
    if store is not None:
        settings = profile_of(profile) if profile.exists() else None
        _show_sealed(identity, open_store(store, log_key), settings, password_file, json=json)
        return
    events, teller, signed = _from_firehose(identity, profile_of(profile), password_file)
    if not events:
        raise ParleyError(
            f"transaction {transaction_text(identity)} is not on the firehose as far back as it is kept; try --store"
        )
    for event in events:
        _show(teller, event, json=json)
    for each in signed:
        show_signed(each, json=json)


def _show(teller: Teller, event: FirehoseEvent, *, json: bool) -> None:
    if json:
        show_json(teller.row(event))
    else:
        typer.echo(teller.line(event))


def prove(
    transaction: Annotated[str, typer.Argument(help="The transaction's id.")],
    store: Annotated[Path, typer.Option("--store", help="The block store's folder.")],
    log_key: Annotated[Path, typer.Option("--log-key", help="File with the log's verifier key.")],
    message: Annotated[int, typer.Option(help="Which message, from 0; the last by default.")] = -1,
    body: Annotated[
        Path | None,
        typer.Option(
            "--body",
            help="Our own copy of a message that was purged: its event, the receipt with it, or an older proof.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write; <id>.proof by default.")] = None,
    json: Json = False,
) -> None:
    """Write the proof of a message to a file, for `parley verify`."""
    identity = parse_transaction_id(transaction)
    lookup = Lookup(open_store(store, log_key))
    place = lookup.transaction(identity)
    events = lookup.store.block(place.height).transactions[place.leaf_index].events
    messages = [
        number
        for number, data in enumerate(events)
        if purged(data) is not None or decode(data, FirehoseEvent).envelope is not None
    ]
    if not -len(messages) <= message < len(messages):
        raise ProofError(f"transaction {transaction_text(identity)} has messages 0 to {len(messages) - 1}")
    path = output or Path(f"{transaction_text(identity)}.proof")
    copy = None if body is None else read_file(body)
    write_file(path, make_proof(lookup, place._replace(event_index=messages[message]), copy))
    if json:
        show_json({"proof": str(path), "block": place.height})
    else:
        typer.echo(f"{path}: message {message % len(messages)} of {len(messages)}, in block {place.height}")


def open_store(store: Path, log_key: Path | None) -> BlockStore:
    """The block store that the options name; raises ParleyError for what is none."""
    if log_key is None:
        raise typer.BadParameter("--store needs --log-key")
    if not store.is_dir():
        raise ParleyError(f"{store} is not a folder; name the block store")
    return BlockStore(from_folder(store), read_log_key(log_key))


def _show_sealed(
    identity: TransactionId,
    store: BlockStore,
    settings: Profile | None,
    password_file: Path | None,
    *,
    json: bool,
) -> None:
    lookup = Lookup(store)
    place = lookup.transaction(identity)
    sealed = store.block(place.height).transactions[place.leaf_index]
    events = [sealed_event(data) for data in sealed.events]
    reader = None
    if settings is not None and any(
        isinstance(event, FirehoseEvent) and is_private(event) for event in events
    ):
        reader = _reader(settings, password_file)
    if reader is not None:
        learn(reader, sealed_events(store))
    teller = Teller(None, reader, one_transaction=True)
    for event in events:
        if isinstance(event, FirehoseEvent):
            _show(teller, event, json=json)
            continue
        statement = statement_on(lookup, sealed.record.pipeline, event)
        if json:
            show_json(purged_row(event, sealed.record, statement))
        else:
            typer.echo(purged_line(event, sealed.record, statement))
    whole = [event for event in events if isinstance(event, FirehoseEvent)]
    if asks(whole):
        for each in signed_for(whole, sealed_events(store), None):
            show_signed(each, json=json)
    if json:
        show_json({"event": "sealed", "block": place.height})
    else:
        typer.echo(f"It stands in block {place.height}.")


def _from_firehose(
    identity: TransactionId, settings: Profile, password_file: Path | None
) -> tuple[Sequence[FirehoseEvent], Teller, Sequence[Signed]]:
    from parley.kafka import DIRECTORY, FIREHOSE, TopicReader  # noqa: PLC0415  not needed for a store

    access, directory = settings.access(), Directory(settings.registrar)
    events, granting, acknowledging = [], [], []
    with TopicReader(access, FIREHOSE) as topic:
        for record in topic.read_to_end():
            event = decode(record.value, FirehoseEvent)
            if event.transaction_id == identity:
                events.append(event)
            elif mentions(event, identity):
                acknowledging.append(event)
            elif granted_to(settings.participant, event) is not None:
                granting.append(event)
    with TopicReader(access, DIRECTORY) as topic:
        for record in topic.read_to_end():
            directory.apply(record.value)
    if not events:
        complain("looked through everything the firehose still keeps")
    reader = _reader(settings, password_file) if any(map(is_private, events)) else None
    if reader is not None:
        learn(reader, (event for event in granting if _is_proved(event, directory)))
    signed = tuple(signed_for(events, acknowledging, directory))
    return events, Teller(directory, reader, one_transaction=True), signed


def _reader(settings: Profile, password_file: Path | None) -> Reader | None:
    """What decrypts for the profile; ``None`` where it names no keystore."""
    return None if settings.keystore is None else reader_of(settings, password_file)


def _is_proved(event: FirehoseEvent, directory: Directory) -> bool:
    spoken = read_spoken(event)
    try:
        if spoken is not None:
            prove_spoken(event, spoken, directory)
    except VerificationError:
        return False
    return True
