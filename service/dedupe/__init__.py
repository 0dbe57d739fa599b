"""Which events of a partition an earlier record repeats: the window, and how it is read back at an assignment."""
