"""A stand-in for the hub, which speaks its protocol well, and misbehaves where a test says so.

`hub.py` has the server and what a test commands, `faults.py` what can go wrong, `records.py` what was heard.
`requests.py` is the part that behaves well, on top of `memory.py`; `peer.py` is one connection.
"""

from tests.support.misbehaving_hub.hub import MisbehavingHub
from tests.support.misbehaving_hub.limits import Limits

__all__ = ["Limits", "MisbehavingHub"]
