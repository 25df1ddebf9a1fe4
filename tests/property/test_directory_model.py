"""The directory against a naive model: random joins, new entries and revocations, right and wrong ones; both agree on each.

The model keeps a list of every version's valid keys, and knows the rules only as: who signed is enough, or is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parley.directory import Directory
from parley.envelope import DIRECTORY_ENTRY_TYPE, DIRECTORY_REVOCATION_TYPE, seal
from parley.errors import DirectoryError
from parley.keys import SigningKey, public_key
from parley.schemas import DirectoryEntry, DirectoryRevocation, Envelope, Hash, encode

KEYS = tuple(SigningKey(sha256(b"model key %d" % number).digest()) for number in range(12))
REGISTRAR = KEYS[0]
NAMES = ("ant", "bee", "cat")

keys = st.sampled_from(KEYS)
some_keys = st.lists(keys, min_size=1, max_size=3, unique=True)
signers = st.sets(keys, max_size=5)


@dataclass
class Bank:
    """A participant as the model has it: keys by number."""

    listed: list[SigningKey]
    threshold: int
    next_key: SigningKey | None
    version: int
    revoked: set[SigningKey] = field(default_factory=set)

    @property
    def valid(self) -> set[SigningKey]:
        return set(self.listed) - self.revoked


class DirectoryModel(RuleBasedStateMachine):
    """Every change is tried with whichever keys sign it; model and directory judge it alike."""

    @initialize()
    def begin(self) -> None:
        self.directory = Directory(REGISTRAR.public)
        self.records: list[bytes] = []
        self.banks: dict[str, Bank] = {}
        self.used = {REGISTRAR: "registrar"}
        self.owners: list[dict[SigningKey, str]] = [{}]
        """By version, whose each valid key was."""
        entry = self.entry("registrar", [REGISTRAR], 1, None, None)._replace(role="REGISTRAR")
        assert self.try_it(seal(DIRECTORY_ENTRY_TYPE, entry, REGISTRAR))
        self.remember()

    @rule(
        name=st.sampled_from(NAMES),
        listed=some_keys,
        by=signers,
        threshold=st.integers(1, 2),
        next_key=st.none() | keys,
    )
    def enter(
        self,
        name: str,
        listed: list[SigningKey],
        by: set[SigningKey],
        threshold: int,
        next_key: SigningKey | None,
    ) -> None:
        """Any entry, signed by anybody."""
        self.offer(name, listed, by, threshold, next_key)

    @rule(
        name=st.sampled_from(NAMES), new=keys, drop=st.booleans(), threshold=st.integers(1, 2), data=st.data()
    )
    def enter_with_enough(
        self, name: str, new: SigningKey, drop: bool, threshold: int, data: st.DataObject
    ) -> None:
        """An entry signed by all who might have to, or all of them but one."""
        bank = self.banks.get(name)
        kept = [] if bank is None or drop else sorted(bank.valid, key=lambda key: key.id)[:2]
        listed = list(dict.fromkeys((*kept, new)))
        by = {*listed, *(set() if bank is None else bank.valid), REGISTRAR}
        missing = data.draw(st.none() | st.sampled_from(sorted(by, key=lambda key: key.id)))
        unused = [key for key in KEYS if key not in self.used and key not in listed]
        commit = data.draw(st.none() | st.sampled_from(unused)) if unused else None
        self.offer(name, listed, by - {missing}, min(threshold, len(listed)), commit)

    @rule(name=st.sampled_from(NAMES), key=keys, by=signers)
    def revoke(self, name: str, key: SigningKey, by: set[SigningKey]) -> None:
        """Any revocation, signed by anybody."""
        bank = self.banks.get(name)
        if bank is None:
            return
        revocation = DirectoryRevocation(name, key.id, "COMPROMISED", bank.version)
        good = key in bank.valid and bool(by) and by <= {*bank.valid, REGISTRAR}
        assert self.try_it(seal(DIRECTORY_REVOCATION_TYPE, revocation, *by)) is good
        if good:
            bank.revoked.add(key)
            self.remember()

    def offer(
        self,
        name: str,
        listed: list[SigningKey],
        by: set[SigningKey],
        threshold: int,
        next_key: SigningKey | None,
    ) -> None:
        bank = self.banks.get(name)
        good = self.may_enter(name, bank, listed, by, threshold, next_key)
        entry = self.entry(name, listed, threshold, next_key, None if bank is None else bank.version)
        assert self.try_it(seal(DIRECTORY_ENTRY_TYPE, entry, *by)) is good
        if good:
            self.used |= dict.fromkeys(listed, name)
            self.banks[name] = Bank(listed, threshold, next_key, self.directory.version)
            self.remember()

    def may_enter(
        self,
        name: str,
        bank: Bank | None,
        listed: list[SigningKey],
        by: set[SigningKey],
        threshold: int,
        next_key: SigningKey | None,
    ) -> bool:
        """The rules, as plainly as they can be said."""
        valid = set() if bank is None else bank.valid
        new = [key for key in listed if key not in valid]
        if threshold > len(listed) or any(key in self.used for key in new):
            return False
        if next_key is not None and (next_key in self.used or next_key in listed):
            return False
        if not by <= {*listed, *valid, REGISTRAR} or not by.issuperset(new):
            return False
        if bank is None:
            return REGISTRAR in by
        rekeyed = (set(listed), threshold, next_key) != (valid, bank.threshold, bank.next_key)
        if bank.next_key is not None and rekeyed:
            if bank.next_key in listed:
                return True
            if valid:
                return False
        enough = len(by & valid) >= min(bank.threshold, len(valid))
        return enough and (len(valid) >= bank.threshold or REGISTRAR in by)

    def entry(
        self,
        name: str,
        listed: list[SigningKey],
        threshold: int,
        next_key: SigningKey | None,
        previous: int | None,
    ) -> DirectoryEntry:
        commitment = None if next_key is None else Hash(sha256(next_key.public).digest())
        publics = tuple(public_key(key.public) for key in listed)
        return DirectoryEntry(
            name, name, None, None, "DE", "BANK", publics, (), (name,), previous, threshold, commitment
        )

    def try_it(self, envelope: Envelope) -> bool:
        try:
            record = encode(self.directory.admit(envelope, 0))
        except DirectoryError:
            return False
        self.directory.apply(record)
        self.records.append(record)
        return True

    def remember(self) -> None:
        """Note who has which key from this version on."""
        held = {key: name for name, bank in self.banks.items() for key in bank.valid}
        self.owners.append({REGISTRAR: "registrar", **held})

    @invariant()
    def every_key_is_its_owners_at_every_version(self) -> None:
        for version, owners in enumerate(self.owners):
            for key in KEYS:
                held = self.directory.signer(key.id, version)
                assert (None if held is None else held.participant) == owners.get(key)
        for key in KEYS:
            now = self.directory.speaker(key.id)
            assert (None if now is None else now.participant) == self.owners[-1].get(key)

    @invariant()
    def whoever_reads_the_log_later_knows_the_same(self) -> None:
        later = Directory(REGISTRAR.public)
        for record in self.records:
            later.apply(record)
        assert (later.version, later.chain) == (self.directory.version, self.directory.chain)
        assert list(later) == list(self.directory)


TestDirectoryModel = DirectoryModel.TestCase
