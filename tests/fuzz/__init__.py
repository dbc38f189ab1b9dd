"""Fuzzing of every parser of hostile bytes: `python -m tests.fuzz` for an hour, `test_fuzz.py` for seconds."""
