"""Who of an instruction's parties is whom on the backbone: by LEI, or else by BIC, as the registrar attested them."""

from __future__ import annotations

from parley.directory import Directory
from parley.errors import DirectoryError
from parley.workflows.settlement.instruction import Chain, Party, SettlementInstruction

__all__ = ["counterparty_of", "head_office", "speaks_for"]


def counterparty_of(directory: Directory, instruction: SettlementInstruction) -> str:
    """The participant to negotiate an instruction with: the first of the other side's chain who is in the directory.

    Raises:
        DirectoryError: none of them is.

    """
    for party in instruction.counterparty.parties:
        found = _participant(directory, party)
        if found is not None:
            return found
    named = " or ".join(str(party.lei or party.id) for party in instruction.counterparty.parties)
    raise DirectoryError(
        f"nobody in the directory is {named}; the counterparty must join before it can settle here"
    )


def speaks_for(directory: Directory, participant: str, chain: Chain) -> bool:
    """Whether a participant is one of a chain's parties, so that an instruction with this chain as its own may be its."""
    return any(_participant(directory, party) == participant for party in chain.parties)


def head_office(bic: str) -> str:
    """A BIC without the branch XXX, which stands for the head office as no branch does."""
    return bic.removesuffix("XXX") if len(bic) == 11 else bic


def _participant(directory: Directory, party: Party) -> str | None:
    for entry in directory:
        if party.lei is not None:
            if entry.lei == party.lei:
                return entry.participant
        elif isinstance(party.id, str) and entry.bic and head_office(entry.bic) == head_office(party.id):
            return entry.participant
    return None
