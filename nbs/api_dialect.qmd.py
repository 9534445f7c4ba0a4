"""
---
title: "`genmod_nb.dialect`"
repo-actions: false
---
"""
from runpy import run_path

from nbdev.config import get_config

run_path(get_config().nbs_path / "_reference.py")["page"]("dialect")
