"""`hms-bus demo`: the team of `hms_bus.demo`, in this process or in several."""
