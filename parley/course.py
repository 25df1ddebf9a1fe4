"""The course of a transaction as one participant has seen it: its terms, what was said, who is due, and how it ended."""

from __future__ import annotations

from parley.acknowledgement import ACKNOWLEDGEMENT_KIND, ACKNOWLEDGEMENT_TYPE
from parley.heard import DealMessage, Due
from parley.identifiers import transaction_text
from parley.schemas import Head, Outcome, Terms, TransactionId
from parley.sealed_address import Seal
from parley.steps import StepRule, allowed_steps
from parley.view import DealView

__all__ = ["Course"]


class Course:
    """What was seen of a transaction so far, and where that has brought it."""

    __slots__ = ("_participant", "_seal", "_view", "messages", "names")

    def __init__(self, participant: str, view: DealView) -> None:
        self._participant = participant
        self._view = view
        self._seal: Seal | None = None
        self.messages: list[DealMessage] = []
        """Everything said so far that this participant has seen, its own messages included."""
        self.names: dict[str, str] = {}
        """Who is behind the sealed addresses among the parties, as far as this connection knows: those that it hid itself, and
        those that have spoken."""

    @property
    def id(self) -> TransactionId:
        return self._view.transaction_id

    @property
    def pipeline(self) -> int:
        return self._view.pipeline

    @property
    def terms(self) -> Terms:
        return self._view.transaction.terms

    @property
    def kind(self) -> str:
        return self.terms.kind

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties as the terms name them: a hidden one by its sealed address (``names`` may tell more)."""
        return tuple(party.participant for party in self.terms.parties)

    @property
    def own_name(self) -> str:
        """What the terms call this participant: its name, or its sealed address. Speaking by that one reveals who it is."""
        return self._participant if self._seal is None else self._seal.text

    @property
    def opened_at(self) -> int:
        """When the opening was appended; ms since the Unix epoch."""
        return self._view.transaction.opened_at

    @property
    def deadline(self) -> int:
        """The last moment at which a message counts; ms since the Unix epoch."""
        return self.terms.deadline

    @property
    def outcome(self) -> Outcome | None:
        """FINISHED, TIMED_OUT, or ``None`` while open."""
        return self._view.transaction.outcome

    @property
    def waiting_on(self) -> tuple[str, ...]:
        """Who is due to speak, as the terms name them; after a timeout, who was; empty once finished."""
        return self._view.transaction.due

    @property
    def next_steps(self) -> tuple[StepRule, ...]:
        """What we may say now, in a kind of transaction that has a table of steps; empty where it has none, or not all was seen."""
        return allowed_steps(self._view.transaction, self.own_name) if self.is_whole else ()

    @property
    def due(self) -> tuple[Due, ...]:
        """Those of ``waiting_on``, and what each had said last."""
        return tuple(self._due(name) for name in self.waiting_on)

    def _due(self, name: str) -> Due:
        participant = self.names.get(name, None if ":" in name else name)
        if name == self.own_name:
            participant = self._participant
        said = (message for message in reversed(self.messages) if message.sender == participant)
        return Due(name, participant, next(said, None))

    @property
    def waiting_since(self) -> int:
        """When the last message that we saw was appended, since which those due are due; ms since the Unix epoch."""
        return self.messages[-1].at if self.messages else self.opened_at

    @property
    def head(self) -> Head:
        """The last message seen, which the next one will link to."""
        return self._view.head

    @property
    def is_whole(self) -> bool:
        """Whether every message up to the head was seen here."""
        return self._view.whole

    @property
    def is_acknowledgement(self) -> bool:
        """Whether this is no deal but a signed acknowledgement, which the client sees to itself."""
        said = self.messages
        return (
            self.kind == ACKNOWLEDGEMENT_KIND and bool(said) and said[0].content_type == ACKNOWLEDGEMENT_TYPE
        )

    def _go_on(self, view: DealView, message: DealMessage | None, seal: Seal | None) -> None:
        """Stand where the view stands, with the message that led there."""
        self._view = view
        self._seal = seal or self._seal
        if message is not None and (not self.messages or self.messages[-1].sequence < message.sequence):
            self.messages.append(message)

    def __repr__(self) -> str:
        state = self.outcome or f"waiting on {', '.join(self.waiting_on)}"
        return f"{type(self).__name__}({transaction_text(self.id)}, {self.kind!r}, {state})"
