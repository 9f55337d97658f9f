"""HTTP: routers that translate between requests and the service's parts, and hold no logic of their own."""
