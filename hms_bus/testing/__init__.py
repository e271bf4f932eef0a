"""What tests use: the test double, a transport with faults, and the conformance suite.

    from hms_bus.testing import bus

`bus` makes a bus that behaves like one on a wire (`hms_bus.testing.double`), `faulty:URL` is any
transport with the faults of a network (`hms_bus.testing.faulty`), and `conformance` proves a
transport, a log or a codec of one's own (`hms_bus.testing.conformance`; import it, nothing else
loads it).
"""

from hms_bus.testing.double import bus
from hms_bus.testing.faults import Faults
from hms_bus.testing.faulty import FaultyTransport

__all__ = ["Faults", "FaultyTransport", "bus"]
