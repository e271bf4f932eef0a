"""The rows of the table, by subject. Each module lists its own in `ROWS`."""
