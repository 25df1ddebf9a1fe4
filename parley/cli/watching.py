"""``parley watch``: the firehose as it comes, every chain hash and signature checked."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from parley.cli.options import DEFAULT_PROFILE, Json, PasswordFile, ProfileFile, profile_of, reader_of
from parley.cli.output import complain, show_json
from parley.cli.telling import Teller
from parley.directory import Directory
from parley.errors import FirehoseError
from parley.firehose import CursorFile, Follower, Position
from parley.kafka import DIRECTORY, FIREHOSE, TopicReader, TopicRecord
from parley.schemas import FirehoseEvent, decode

__all__ = ["register"]

_SAVE_SECONDS = 1.0
_DIRECTORY_PATIENCE = 10.0


def register(app: typer.Typer) -> None:
    app.command()(watch)


def watch(
    cursor: Annotated[
        Path | None, typer.Option("--cursor", help="Resume from this file, and keep our place in it.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End where the firehose ends now.")] = False,
    decrypt: Annotated[
        bool, typer.Option("--decrypt", help="Read what is granted or disclosed to us, with our keystore.")
    ] = False,
    profile: ProfileFile = DEFAULT_PROFILE,
    password_file: PasswordFile = None,
    json: Json = False,
) -> None:
    """Follow the firehose: every event in order, without gap, with its chain hash and signatures checked.

    Without a cursor file it begins at the first events that are kept, and takes their chain hashes as given.
    """
    settings = profile_of(profile)
    access = settings.access()
    file = None if cursor is None else CursorFile(cursor)
    follower = Follower({} if file is None else file.load())
    positions = {pipeline: at.offset for pipeline, at in follower.cursor.items()}
    directory = Directory(settings.registrar)
    try:
        with TopicReader(access, DIRECTORY) as entries, TopicReader(access, FIREHOSE, positions) as reader:
            feed = _DirectoryFeed(directory, entries)
            teller = Teller(directory, reader_of(settings, password_file) if decrypt else None)
            _watch(reader, follower, feed, file, teller, once=once, json=json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


class _DirectoryFeed:
    """Brings the directory to the version that an event was judged by."""

    def __init__(self, directory: Directory, reader: TopicReader) -> None:
        self.directory = directory
        self._reader = reader
        for record in reader.read_to_end():
            directory.apply(record.value)

    def reach(self, version: int) -> None:
        until = time.monotonic() + _DIRECTORY_PATIENCE
        while self.directory.version < version:
            for record in self._reader.poll(0.2):
                self.directory.apply(record.value)
            if time.monotonic() > until:
                raise FirehoseError(
                    f"an event was judged by directory version {version}, which is not on the directory; ask the operator"
                )


def _watch(
    reader: TopicReader,
    follower: Follower,
    feed: _DirectoryFeed,
    file: CursorFile | None,
    teller: Teller,
    *,
    once: bool,
    json: bool,
) -> None:
    saved = time.monotonic()
    while not (once and reader.at_end):
        for record in reader.poll(0.2):
            event = _follow(follower, record)
            if event is not None:
                feed.reach(event.directory_version)
                if json:
                    show_json(teller.row(event))
                else:
                    typer.echo(teller.line(event))
        sys.stdout.flush()
        # Only here is everything followed also shown; an error leaves the last place saved.
        if file is not None and (once or time.monotonic() - saved > _SAVE_SECONDS):
            file.save(follower.cursor)
            saved = time.monotonic()


def _follow(follower: Follower, record: TopicRecord) -> FirehoseEvent | None:
    """The next event; a pipeline not followed yet begins with the first event that is kept."""
    if record.partition not in follower.cursor:
        first = decode(record.value, FirehoseEvent)
        follower.cursor[record.partition] = Position(first.sequence, first.chain, record.offset)
        if first.sequence:
            complain(
                f"pipeline {record.partition} begins at event {first.sequence}; what was before is no longer kept"
            )
    return follower.follow(record.value, record.offset)
