"""The Autobahn test suite as a gate: `python -m tests.autobahn`."""
