"""What every notebook of the book begins with: the look of its figures and, where IN_TEST is set, sizes for a test.

The page shows a cell as it runs for the book. What a test makes of it stands in a directive of the cell, which the page does not show:

    #| in-test: max_epochs=400 -> max_epochs=40; range(8) -> range(2)

or `#| in-test: skip` for a claim that only the full size can keep. A directive that does not fit its cell is an error.
"""
import os
import re
import sys

import seaborn as sns
from IPython import get_ipython

DIRECTIVE = re.compile(r"#\| in-test: (.+)")


def small(lines):
    """The lines of a cell as a test runs them."""
    directive = next((m[1] for line in lines if (m := DIRECTIVE.match(line))), "")
    if directive == "skip":
        return []
    code = "".join(line for line in lines if not line.startswith("#|"))
    for old, new in (pair.strip().split(" -> ") for pair in directive.split(";") if pair):
        if code.count(old) != 1:
            raise ValueError(f"in-test: {old!r} stands {code.count(old)} times in its cell")
        code = code.replace(old, new)
    return code.splitlines(keepends=True)


sns.set_theme(style="whitegrid", context="notebook", rc={"figure.dpi": 110, "savefig.dpi": 110})
if "IN_TEST" in os.environ and (shell := get_ipython()):
    shell.input_transformers_post.append(small)
    # nbdev_test runs one notebook after the other in a process, each in a shell of its own: the next one's import must come here again
    shell.events.register("post_execute", lambda: sys.modules.pop(__name__, None))
