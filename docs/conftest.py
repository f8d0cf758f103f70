"""Runs the pages of this folder as the conftest.py above runs those of its folders, whose pattern leaves these out.

It also lets the blocks of all pages import `proof`, whatever pytest was started with.
"""

import sys
from pathlib import Path

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

sys.path.insert(0, str(Path(__file__).parent))

pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"]).pytest()
