"""docs/users.md is true: its code runs, and its table lists every kind of name."""

import re
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, policy
from mtls_middleware.integrations import CertificateUser
from mtls_middleware.policy.identifier import Identifier
from tests.integrations.test_certificate_user import ALICE, STAFF, upn, validated

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "users.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
ROWS = re.findall(r"^\| `((\w+)\(.*?\))` \|.*\| (yes|no) \|$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def _authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "staff-ca.pem").write_text(STAFF.pem)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("file", "expected"), [("users.py", ALICE), ("people.py", "Alice")])
def test_the_examples_find_the_user(file: str, expected: str) -> None:
    names: dict[str, Any] = {}
    exec(FILES[file], names)
    users: CertificateUser[Any] = names["users"]
    identity = users.identify(validated(upn("alice@CORP.example")))
    assert identity is not None
    assert getattr(users.user_of(identity), "name", users.user_of(identity)) == expected


def test_the_table_lists_every_kind_of_name() -> None:
    kinds = {
        name
        for name in policy.__all__
        if isinstance(kind := getattr(policy, name), type) and issubclass(kind, Identifier)
    }
    assert {name for _, name, _ in ROWS} == kinds


@pytest.mark.parametrize(("source", "name", "needs"), ROWS)
def test_the_table_says_which_names_need_their_authority(source: str, name: str, needs: str) -> None:
    kind = eval(source, vars(policy) | {name: getattr(policy, name)})
    CertificateUser(by=kind, issued_by=STAFF.certificate)
    if needs == "yes":
        with pytest.raises(ConfigurationError, match="without issued_by="):
            CertificateUser(by=kind)
    else:
        CertificateUser(by=kind)
