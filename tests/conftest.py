"""The plug-ins of the test suite; each brings the fixtures of one resource."""

pytest_plugins = ["tests.fix_backbone", "tests.fix_ledger", "tests.fix_stack"]
