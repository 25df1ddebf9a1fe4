"""A folder of receipts, a file for each message of ours: what a promise is claimed with. Whether it was kept is not looked at."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from parley.errors import ParleyError
from parley.schemas import MessageId

__all__ = ["ReceiptFolder"]


class ReceiptFolder:
    """Keeps receipts as ``<message id>.receipt``; give it to ``parley.connect`` as ``keep``.

    Each is on disk before the message counts as accepted here. Files are for their owner alone (mode 0600), for a receipt holds what
    was said. A receipt that comes again, as after a restart, changes nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Use this folder, and make it where it is missing; raises ParleyError where that cannot be."""
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ParleyError(f"{folder} cannot be a folder of receipts: {error.strerror}") from error

    def path(self, message_id: MessageId) -> Path:
        """Where a message's receipt is kept."""
        return self._folder / f"{message_id.hex()}.receipt"

    def __call__(self, message_id: MessageId, receipt: bytes) -> None:
        """Keep an encoded receipt.

        Raises:
            ParleyError: it cannot be written; the connection ends by that, for what is not kept cannot be claimed.

        """
        path = self.path(message_id)
        if path.exists():
            return
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(receipt)
                file.flush()
                os.fsync(descriptor)
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise ParleyError(
                f"{path} cannot be written ({error.strerror}); mend that and connect again: while the deal is open, the inbox"
                " still brings it"
            ) from error
