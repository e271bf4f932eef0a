"""What a hub and its clients share: where a hub is, what they say, and how (spec/ipc.md)."""
