"""The hub: the process that joins the processes of one machine (`python -m hms_bus.hub`)."""
