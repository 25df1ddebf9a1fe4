"""Proof that the compiled router is the router: run by `python -m tests.compiled`, never among the other tests."""
