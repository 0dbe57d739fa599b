"""Proves from the topics alone that each event has exactly one result; ``fanline audit``."""
