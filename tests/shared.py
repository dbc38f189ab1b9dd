"""Where reference data is that is not part of this repository; tests that read it are marked `shared`."""

import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("MTLS_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def read_json(name: str) -> Any:
    """A file's data; nothing where the folder is absent, so that parametrised tests come to none."""
    path = ROOT / name
    return json.loads(path.read_text("utf-8")) if ROOT.is_dir() else {}
