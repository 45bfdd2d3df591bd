"""Compares Penstock with what else a task could be sent to: FastAPI with SAQ or Celery, LitServe, and a bare loop."""
