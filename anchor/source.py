"""Where the log's newest checkpoint is read: a file or a web address; it is believed only under the log's key."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from anchor.core import TreeHead
from anchor.errors import CheckpointError
from parley.checkpoint import open_checkpoint
from parley.errors import ProofError
from parley.note import MAX_NOTE_LENGTH
from parley.schemas import Hash

if TYPE_CHECKING:
    from parley.note import VerifierKey


class CheckpointSource:
    """The ``checkpoint`` of a block store."""

    def __init__(self, location: str, log_key: VerifierKey, *, timeout: float = 10.0) -> None:
        """``location`` is a path or an http(s) address; ``timeout`` is in seconds."""
        self._location = location
        self._log_key = log_key
        self._timeout = timeout

    def newest(self) -> TreeHead | None:
        """The log's newest tree head, its signature verified; ``None`` while the log is empty.

        Raises:
            CheckpointError: it cannot be read, or the log's key did not sign it.

        """
        note = self._fetched() if self._location.startswith(("http://", "https://")) else self._read()
        if note is None:
            return None
        try:
            checkpoint = open_checkpoint(note, self._log_key)
        except ProofError as error:
            raise CheckpointError(f"{self._location} is not anchored: {error}") from error
        return TreeHead(checkpoint.size, Hash(checkpoint.root)) if checkpoint.size else None

    def _read(self) -> bytes | None:
        try:
            with Path(self._location).open("rb") as file:
                return file.read(MAX_NOTE_LENGTH + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(
                f"{self._location} cannot be read: {error.strerror}; check the path"
            ) from error

    def _fetched(self) -> bytes | None:
        try:
            with urllib.request.urlopen(self._location, timeout=self._timeout) as answer:  # noqa: S310 - http(s) only, checked above
                return bytes(answer.read(MAX_NOTE_LENGTH + 1))
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.NOT_FOUND:
                return None
            raise CheckpointError(
                f"{self._location} answers {error.code} {error.reason}; see the web server"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CheckpointError(
                f"{self._location} cannot be fetched: {error}; check the address"
            ) from error
