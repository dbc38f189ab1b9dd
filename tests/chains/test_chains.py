"""Generated chains and revocation states have the same result here and in OpenSSL, or the difference is explained.

`python -m tests.chains` compares 100,000.
"""

import logging
import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from mtls_middleware.validation import ocsp_response, profile
from mtls_middleware.validation.crl import RevocationList
from tests.chains import responses
from tests.chains.compare import compare
from tests.chains.compare_ocsp import compare_ocsp
from tests.chains.explanations import Differs
from tests.chains.generate import draw
from tests.chains.ours import Built


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


def compare_responses(seed, count, directory):
    """The results for so many PKIs with OCSP responses."""
    tally = Counter()
    for number in range(count):
        pki = draw(Random(f"{seed}/{number}"))
        tally += compare_ocsp(pki, Built.of(pki), f"{seed}/{number}", directory)
    return tally


def test_each_difference_from_openssl_about_responses_is_explained(tmp_path):
    tally = compare_responses("a", 50, tmp_path)
    assert tally["accepted by both"] >= 24
    assert tally["rejected by both"] >= 24


@pytest.mark.parametrize(
    ("change", "function"),
    [
        ("signed by another key", "_is_signed_by"),
        ("changed signature", "_is_signed_by"),
        ("delegate: purposes", "_delegated"),
        ("delegate: of another CA", "_delegated"),
        ("delegate: expired", "_is_valid"),
    ],
)
def test_a_check_of_the_signer_that_is_missing_would_be_found(monkeypatch, tmp_path, change, function):
    monkeypatch.setattr(responses, "OF_A_RESPONSE", {change: responses.OF_A_RESPONSE[change]})
    result = None if function == "_delegated" else True
    monkeypatch.setattr(ocsp_response, function, lambda *arguments: result)
    with pytest.raises(Differs, match="ACCEPTED HERE ONLY"):
        compare_responses("a", 200, tmp_path)


@pytest.mark.parametrize("change", ["expired", "not yet valid"])
def test_a_check_of_the_times_that_is_missing_would_be_found(monkeypatch, tmp_path, change):
    verify = ocsp_response._verify

    def verify_at_any_time(octets, request, issuer, now, required):
        return verify(octets, request, issuer, now, replace(required, behind=math.inf, ahead=math.inf))

    monkeypatch.setattr(responses, "OF_A_STATUS", {change: responses.OF_A_STATUS[change]})
    monkeypatch.setattr(ocsp_response, "_verify", verify_at_any_time)
    with pytest.raises(Differs, match="ACCEPTED HERE ONLY"):
        compare_responses("a", 200, tmp_path)
