"""Differential tests: the same drawn requests through two stacks, whose answers must be equal.

- `test_differential.py`: a stack that lives long against a stack without any cache.
- `python -m tests.differential --requests 200000`: the same for longer.
- `python -m tests.differential --before FOLDER`: the code of another commit against this code.
"""
