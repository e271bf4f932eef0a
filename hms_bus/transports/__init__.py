"""The transports, each in its module; they are found by URL scheme through `hms_bus.plugins`."""
