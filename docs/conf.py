"""How Sphinx builds these pages. `make docs` runs it with -n -W: a broken reference is a failure."""

import wsadapter

project = "wsadapter"
author = "wsadapter contributors"
copyright = "wsadapter contributors"
version = release = wsadapter.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "wsadapter"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# The build needs no network, so there is no inventory of other projects' pages: their names stay unlinked.
nitpick_ignore_regex = [
    (r"py:.*", r"(asyncio|asgiref|collections|concurrent|contextvars|h11|socket|ssl|types|typing|wsproto)\..*"),
    (r"py:class", r"(bool|bytes|bytearray|dict|float|frozenset|int|list|memoryview|object|set|str|tuple|type)"),
    (r"py:class", r"(Any|Awaitable|Callable|Coroutine|Iterable|Iterator|AsyncIterator|Mapping|Sequence)"),
    (r"py:exc", r"(ConnectionError|OSError|RuntimeError|TimeoutError|TypeError|ValueError)"),
    (r"py:obj", r"(None|True|False)"),
]
