"""Generated chains and revocation states have the same result here and in OpenSSL, or the difference is explained.

`python -m tests.chains` compares 100,000.
"""

import logging

import pytest

from mtls_middleware.validation import profile
from mtls_middleware.validation.crl import RevocationList
from tests.chains.compare import compare
from tests.chains.explanations import Differs


@pytest.fixture(autouse=True)
def no_logs(caplog):
    with caplog.at_level(logging.CRITICAL, "mtls_middleware"):
        yield


@pytest.mark.parametrize("seed", ["a", "b"])
def test_each_difference_from_openssl_is_explained(seed):
    tally = compare(seed, 240)
    assert tally.accepted >= 24
    assert tally.rejected >= 24
    assert tally.accepted + tally.rejected + tally.explained.total() == tally.chains


def test_a_list_that_another_key_signed_would_be_found(monkeypatch):
    monkeypatch.setattr(RevocationList, "is_signed_by", lambda *arguments: True)
    with pytest.raises(Differs, match="ACCEPTED HERE ONLY"):
        compare("a", 4_000)


def test_a_check_of_leaves_that_is_missing_would_be_found(monkeypatch):
    monkeypatch.setattr(profile, "client_defects", lambda *arguments, **options: ())
    with pytest.raises(Differs, match="ACCEPTED HERE ONLY"):
        compare("a", 4_000)


def test_a_partition_that_covers_everything_would_be_found(monkeypatch):
    monkeypatch.setattr(RevocationList, "covers", lambda *arguments: True)
    with pytest.raises(Differs, match="ACCEPTED HERE ONLY"):
        compare("a", 4_000)
