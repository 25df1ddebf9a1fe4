"""The errors of the anchor service.

ParleyError
└── AnchorError               anchoring cannot go on as it is
    ├── ChainError            the chain cannot be used
    │   ├── ChainUnreachableError   no endpoint answers; the service backs off and tries again
    │   ├── WrongChainError         an endpoint serves another chain than the settings name
    │   └── ContractMissingError    no anchor contract at the address
    ├── TransactionError      the node or the contract refused the transaction
    │   ├── UnfundedError           the account cannot pay
    │   ├── UnderpricedError        another transaction holds the nonce at a better price
    │   ├── NonceSpentError         the nonce is used up: something was mined meanwhile
    │   └── ContractRefusedError    the contract would revert
    ├── CheckpointError       the log's checkpoint cannot be read or is not signed by the log
    ├── SigningKeyError       the account's key file cannot be used
    └── DeploymentError       the contract cannot be compiled or deployed

What an auditor meets is ``parley.errors.ProofError``.
"""

from __future__ import annotations

from parley.errors import ParleyError


class AnchorError(ParleyError):
    """Anchoring cannot go on as it is; the message says what to do."""


class ChainError(AnchorError):
    """The chain cannot be used."""


class ChainUnreachableError(ChainError):
    """No endpoint gave a usable answer in time; check the endpoints, the service keeps trying."""


class WrongChainError(ChainError):
    """An endpoint serves another chain than the settings name; correct one of the two."""


class ContractMissingError(ChainError):
    """There is no anchor contract at the address; deploy one, or correct the address."""


class TransactionError(AnchorError):
    """The node or the contract refused a transaction."""


class UnfundedError(TransactionError):
    """The account cannot pay for gas; send it funds."""


class UnderpricedError(TransactionError):
    """A transaction with this nonce and a better price is already waiting; the next attempt pays more."""


class NonceSpentError(TransactionError):
    """The nonce is used up: a transaction of this account was mined meanwhile; the next look sorts it out."""


class ContractRefusedError(TransactionError):
    """The contract would revert; the message carries its reason."""


class CheckpointError(AnchorError):
    """The checkpoint cannot be read, or the log's key did not sign it; it is not anchored."""


class SigningKeyError(AnchorError):
    """The account's key file is missing, readable by others, or not a key."""


class DeploymentError(AnchorError):
    """The contract could not be compiled or deployed."""
