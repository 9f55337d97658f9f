"""The calls of CompreFace, so that its clients work by changing the address. docs/compreface.md says what differs."""

from service.api.compreface.routes import router

__all__ = ["router"]
