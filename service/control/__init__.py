"""An operator's orders: read from the control topic by every process, written by commands."""
