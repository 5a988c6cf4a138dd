# SPDX-License-Identifier: Apache-2.0

"""Show how long moving calls took, as people would rather see it."""

import numpy as np

_EDGES_MS = (0, 1, 2, 5, 10, 20, 50, 100, float("inf"))
_WIDEST = 40


def histogram(call_ms):
    """Give a histogram of calls in milliseconds, with the figures that are promised."""
    counts, _ = np.histogram(call_ms, _EDGES_MS)
    figures = ", ".join(f"p{share} {np.percentile(call_ms, share):.1f} ms" for share in (50, 99))
    lines = [f"{len(call_ms)} moving calls: {figures}, longest {call_ms.max():.1f} ms"]
    for low, high, count in zip(_EDGES_MS[:-1], _EDGES_MS[1:], counts, strict=True):
        lines.append(f"{low:>6} to {high:>4} ms {'#' * round(_WIDEST * count / counts.max()):<40} {count}")
    return "\n".join(lines)
