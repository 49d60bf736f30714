"""The processes that speak HTTP: bytes of requests in, bytes of answers out. They open no model."""
