"""Runs the Python blocks of README.md and docs/: what is documented works, or the tests fail.

The blocks of one file share a namespace and run in order. A block that cannot run on its own is left out by a comment
above it, which a reader of the page does not see: `<!--- skip: next -->`, or `<!--- skip: start -->` and
`<!--- skip: end -->` around several; `<!--- skip: next "why" -->` shows the reason in pytest's output. A hidden block,
for what the visible ones take for granted, is `<!--- invisible-code-block: python` … `-->`.
"""

from hypothesis import settings
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# How long one example takes says something of the machine, not of the code.
settings.register_profile("wsadapter", deadline=None, print_blob=True)
settings.load_profile("wsadapter")

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md", "adapters/*/README.md"],
    excludes=["docs/_build/**"],
).pytest()
