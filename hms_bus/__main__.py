"""`python -m hms_bus` is the console script `hms-bus`."""

from hms_bus.cli import main

if __name__ == "__main__":
    main()
