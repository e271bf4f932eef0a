"""Durable subscriptions of a log: what was delivered, what became of it (ADR 6)."""
