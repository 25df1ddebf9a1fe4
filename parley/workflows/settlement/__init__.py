"""Delivery versus payment, the pure core: instructions, checks, matching, status advices and confirmations.

Bytes in, values out, and back; no files, no network, no clock. Where to look:

- `instruction`: what is negotiated, as values
- `reading`, `writing`: sese.023; `advice`: sese.024; `confirmation`: sese.025
- `checks`: one instruction by itself; `matching`: two against each other
- `trades`: a trade file as instructions of both sides
- `document`, `iso20022`, `models`: XML within limits, as elements, kept to what the standard says

Needs the extra ``settlement``.
"""
