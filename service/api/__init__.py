"""The HTTP and websocket interface. Only this package imports FastAPI.

A connection goes through `new_connection`, then `http` or `websocket`, which bound what it may take. A request goes
through `middleware`, and then to a route: `pose`, `stream` or `info`.
"""
