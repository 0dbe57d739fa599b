"""Health, metrics and status over HTTP."""

from service.http.server import Endpoint, serve

__all__ = ["Endpoint", "serve"]
