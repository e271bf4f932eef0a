"""Tools for log files: looking over, saving, copying, compacting, redacting, sealing, exchanging.

They block: run them in a thread.
"""

from hms_bus.log.tools.backups import back_up
from hms_bus.log.tools.checkup import Checkup, Finding, examine
from hms_bus.log.tools.compaction import Compacted, Rule, compact_in_place, compact_log
from hms_bus.log.tools.copies import Copied, Merged, filter_log, merge_logs, split_log
from hms_bus.log.tools.recovery import Loss, Recovered, recover_log
from hms_bus.log.tools.redaction import Redacted, redact_log
from hms_bus.log.tools.seals import Seal, format_seal, is_genuine, make_key, parse_seal, sign

__all__ = [
    "Checkup",
    "Compacted",
    "Copied",
    "Finding",
    "Loss",
    "Merged",
    "Recovered",
    "Redacted",
    "Rule",
    "Seal",
    "back_up",
    "compact_in_place",
    "compact_log",
    "examine",
    "filter_log",
    "format_seal",
    "is_genuine",
    "make_key",
    "merge_logs",
    "parse_seal",
    "recover_log",
    "redact_log",
    "sign",
    "split_log",
]
