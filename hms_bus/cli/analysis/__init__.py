"""The commands that explain a log: `diff`, `why`, `graph`, `stats` and `bisect`."""
