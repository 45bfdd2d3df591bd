"""Compares Penstock with a server of the same shape made of FastAPI and Celery."""
