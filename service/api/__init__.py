"""The HTTP face. Only this package imports FastAPI."""
