"""MicroPython's heap is never compacted: what stays must lie together, or nothing long fits between it."""

import gc

LOADING_BYTES = 4096


def collect_often() -> None:
    """While modules are loaded: what their compiling leaves is gone before the next one is put above it."""
    if hasattr(gc, "threshold"):
        gc.collect()
        gc.threshold(LOADING_BYTES)


def collect_in_time() -> None:
    """From then on: when a quarter of what is free was taken."""
    if hasattr(gc, "threshold"):
        gc.collect()
        gc.threshold(gc.mem_free() // 4)
