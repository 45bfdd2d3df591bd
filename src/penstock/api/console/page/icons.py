"""Icons, drawn in lines on a field of 20 by 20; they say nothing that the text beside them does not."""

import htpy as h

PATHS = {
    "overview": "M3 16V9m5 7V4m5 12v-5m4 5V7",
    "tasks": "M7 5h10M7 10h10M7 15h10M3 5h.01M3 10h.01M3 15h.01",
    "queues": "M3 6l7-3 7 3-7 3zM3 10l7 3 7-3M3 14l7 3 7-3",
    "workers": "M5 5h10v10H5zM8 8h4v4H8zM8 2v3m4-3v3M8 15v3m4-3v3M2 8h3m-3 4h3m10-4h3m-3 4h3",
    "models": "M10 2l7 4v8l-7 4-7-4V6zM3 6l7 4 7-4M10 10v8",
    "batches": "M6 6h11v11H6zM3 14V3h11",
    "webhooks": "M4 10h9m-4-4l4 4-4 4M16 4v12",
    "usage": "M10 3a7 7 0 1 0 7 7h-7zM13 3.6A7 7 0 0 1 16.4 7H13z",
    "keys": "M8 12a4 4 0 1 1 3.5-3.5L17 14v3h-3v-2h-2v-2h-2l-.5-.5A4 4 0 0 1 8 12zM7 8h.01",
    "audit": "M5 2h7l3 3v13H5zM12 2v3h3M8 9h4M8 12h4M8 15h2",
    "try": "M6 3v14l11-7z",
    "theme": "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
    "keyboard": "M2 5h16v10H2zM5 8h.01M8 8h.01M11 8h.01M14 8h.01M6 12h8",
    "leave": "M12 3H4v14h8M9 10h8m-3-3l3 3-3 3",
    "pause": "M7 4v12M13 4v12",
    "retry": "M16 10a6 6 0 1 1-2-4.5M16 3v4h-4",
    "find": "M9 3a6 6 0 1 1 0 12A6 6 0 0 1 9 3zM13.5 13.5L18 18",
    "warning": "M10 3l8 14H2zM10 8v4M10 14.5h.01",
    "good": "M3 10l5 5L17 5",
}


def icon(name: str) -> h.Element:
    """Return the icon of this name, hidden from readers of the screen."""
    return h.svg(".icon", viewBox="0 0 20 20", aria_hidden="true", focusable="false")[h.path(d=PATHS[name])]
