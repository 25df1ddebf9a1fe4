"""The test suite; importable, so that its shared vocabulary is one module and not many copies."""
