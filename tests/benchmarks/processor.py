"""How much processor time a server has had: what a request costs shows there also where others use the machine.

Linux alone has the files that are read here.
"""

import os
from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")


def seconds(process: int) -> float | None:
    """What the process and those below it have used so far; `None` where the system does not tell it in this way."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    used: dict[int, float] = {}
    for stat in _PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()  # from the state on, proc(5)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        each = int(stat.parent.name)
        children[int(fields[1])].append(each)
        used[each] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    if process not in used:
        return None
    family = [process]
    for each in family:
        family += children[each]
    return sum(used[each] for each in family)
