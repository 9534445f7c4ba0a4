"""
---
title: "API reference"
repo-actions: false
---
"""
from runpy import run_path

from nbdev.config import get_config

run_path(get_config().nbs_path / "_reference.py")["pages"]()
