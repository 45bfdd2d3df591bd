"""What an operator reads of an exception in the code of a model: one line with the place, or the frames of it."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

LONGEST_CAUSE = 300

_PENSTOCK = Path(__file__).parents[1]
_PYTHON = (Path(sysconfig.get_paths()["stdlib"]), Path(sys.prefix))


def cause_of(error: BaseException, folder: Path | None = None) -> str:
    """One line such as `ModuleNotFoundError: No module named 'torch' (my_models.py:3)`. The place is the last one that
    ran in `folder`, else the last one of no library, else the last one."""
    text = " ".join(f"{type(error).__name__}: {getattr(error, 'msg', None) or error}".split())
    return text[:LONGEST_CAUSE] + _place(error, folder)


def own_traceback(error: BaseException) -> str:
    """The traceback without the frames of Penstock; those of libraries that the model has called stay."""
    lines = traceback.TracebackException.from_exception(error)
    shown: traceback.TracebackException | None = lines
    while shown is not None:
        kept = [frame for frame in shown.stack if not _is_below(frame.filename, (_PENSTOCK,))]
        shown.stack = traceback.StackSummary.from_list(kept)
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    return "".join(lines.format())


def _place(error: BaseException, folder: Path | None) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}:{error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_import(frame.filename)]
    near = [frame for frame in frames if folder and _is_below(frame.filename, (folder,))]
    own = [frame for frame in frames if not _is_library(frame.filename)]
    at = (near or own or frames)[-1:]
    return f" ({Path(at[0].filename).name}:{at[0].lineno})" if at else ""


def _is_import(filename: str) -> bool:
    return filename.startswith("<") or "/importlib/" in filename or filename == str(_PENSTOCK / "models" / "loading.py")


def _is_library(filename: str) -> bool:
    return "site-packages" in filename or _is_below(filename, (_PENSTOCK, *_PYTHON))


def _is_below(filename: str, folders: tuple[Path, ...]) -> bool:
    return any(Path(filename).is_relative_to(folder) for folder in folders)
