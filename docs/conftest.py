"""Lets the blocks of these pages import `proof`, whatever pytest was started with."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
