"""The code of docs/integrations.md, by the file name in its first line: what is tested is what the docs say."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL))
