"""The wire: Avro contracts and their codec. Imported as ``parley.schemas`` everywhere; nothing here does IO."""

from __future__ import annotations

from .codec import CONTRACTS as CONTRACTS
from .codec import contract_of as contract_of
from .codec import decode as decode
from .codec import decode_any as decode_any
from .codec import encode as encode
from .codec import from_row as from_row
from .codec import is_a as is_a
from .codec import schema_of as schema_of
from .codec import to_row as to_row
from .contracts import *  # noqa: F403  every contract is part of this package's face
