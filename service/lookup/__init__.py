"""Looks for events and results in the topics, for people who ask what became of them. Writes nothing."""
