"""The lane's journal: a compacted topic that nobody subscribes to; here it is read."""
