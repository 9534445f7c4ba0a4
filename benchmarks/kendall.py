"""How long Kendall's function takes, and how much memory, as the table grows.

Each size runs in a process of its own, three times; the median is printed.
"""
import resource
import statistics
import subprocess
import sys
import time

import numpy as np


def measure(n):
    from genmod_nb.metrics import kendall_function
    X = np.random.default_rng(0).random((n, 4))
    kendall_function(X[:100])
    start = time.perf_counter()
    kendall_function(X)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*measure(int(sys.argv[1])))
    else:
        print("|    rows | seconds | peak memory of the process (MB) |\n|---|---|---|")
        for n in (1_000, 10_000, 100_000, 200_000):
            runs = [list(map(float, subprocess.check_output([sys.executable, __file__, str(n)]).split())) for _ in range(3)]
            print(f"| {n:7,} | {statistics.median(r[0] for r in runs):7.2f} | {max(r[1] for r in runs):6.0f} |")
