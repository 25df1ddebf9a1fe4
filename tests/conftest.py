"""The plug-ins of the test suite; each brings the fixtures of one resource."""

import anchor  # noqa: F401  before any test imports what it imports, so that the recursion limit stays as it was

pytest_plugins = [
    "tests.fix_backbone",
    "tests.fix_ledger",
    "tests.fix_softhsm",
    "tests.fix_stack",
    "tests.fix_desks",
]
