"""Penstock beside a server of the same shape made of FastAPI and Celery."""
