"""The dashboards of Penstock, as tables of their panels."""

from tools.observe.boards.api import API
from tools.observe.boards.models import MODELS
from tools.observe.boards.overview import OVERVIEW
from tools.observe.boards.storage import STORAGE
from tools.observe.boards.workers import WORKERS

DASHBOARDS = (OVERVIEW, WORKERS, MODELS, API, STORAGE)
