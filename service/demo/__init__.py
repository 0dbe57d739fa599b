"""``fanline demo``: the whole way of the data on this machine, with a platform that is imitated."""

from service.demo.demo import Demo, Options

__all__ = ["Demo", "Options"]
