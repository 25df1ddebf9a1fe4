"""Delivery versus payment between two banks, by ISO 20022 documents.

Where to look:

- `steps`: what is said, by whom; `negotiation`: the state machine; `wording`: it in sentences
- `desk`: many of them over the client; `office`: what a bank does at each step; `counterparties`: who is whom
- `straight_through`: files in, a report out; `journal`: what a killed run had done

and under them the pure core: bytes in, values out, and back; no files, no network, no clock.

- `instruction`: what is negotiated, as values
- `reading`, `writing`: sese.023; `advice`: sese.024; `confirmation`: sese.025
- `checks`: one instruction by itself; `matching`: two against each other
- `trades`: a trade file as instructions of both sides
- `document`, `iso20022`, `models`: XML within limits, as elements, kept to what the standard says

Needs the extra ``settlement``; without it, nothing here can be imported.
"""

from importlib.util import find_spec

from parley.errors import SettlementError

if not all(map(find_spec, ("iso4217", "python_iso20022", "xsdata"))):
    raise SettlementError(
        "settlement instructions need more packages; install them with: pip install 'parley-ledger[settlement]'"
    )
