"""How Sphinx builds these pages. `make docs` runs it with -n -W: a broken reference is a failure."""

import importlib
import textwrap

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import wsadapter

project = "wsadapter"
author = "wsadapter contributors"
copyright = "wsadapter contributors"
version = release = wsadapter.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "wsadapter"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

# In docstrings a name between single backticks is a link where there is something to link to, and code elsewhere.
default_role = "py:obj"

# The build needs no network, so there is no inventory of other projects' pages: their names stay unlinked.
nitpick_ignore_regex = [
    (r"py:class", r"wsadapter\.connection\.C"),  # a type variable
    (r"py:obj", r".*"),
    (r"py:.*", r"(asyncio|collections|contextlib|pathlib|socket|ssl|tls|types|typing)\..*"),
    (r"py:class", r"(bool|bytes|bytearray|dict|float|int|list|memoryview|object|str|tuple|type)"),
    (r"py:class", r"(None|Any|Awaitable|Callable|Coroutine|Iterable|Iterator|Mapping|Path|Self|Sequence)"),
    (r"py:class", r"(wsadapter\..*\.)?(App|Broadcastable|BytesLike|ExtraHeaders|Frame|Handler|Message|Opening)"),
    (r"py:class", r"(wsadapter\..*\.)?Origins"),
    (r"py:exc", r"(EOFError|KeyError|OSError|RuntimeError|TimeoutError|TypeError|UnicodeEncodeError|ValueError)"),
]

MODULES = ("wsadapter", "wsadapter.server", "wsadapter.sync", "wsadapter.conformance")


def public_names() -> dict[str, str]:
    """Where a name that the source uses, `wsadapter.connection.Connection` or `Connection`, is told in these pages."""
    known: dict[str, str] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            defined = getattr(getattr(module, name), "__module__", module_name)
            known.setdefault(f"{defined}.{name}", f"{module_name}.{name}")
            known.setdefault(name, f"{module_name}.{name}")
    return known


def find_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.Element
) -> nodes.Element | None:
    """A reference by the name of a private module goes to where the public name is told."""
    if node.get("refdomain") != "py":
        return None
    known = public_names()
    name = node["reftarget"]
    public = known.get(name)
    if public is None:  # such as `Limits.outbox`
        owner, _, member = name.rpartition(".")
        if owner not in known:
            return None
        public = f"{known[owner]}.{member}"
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, contents)


def tell_raises(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """The section of a docstring that says what is raised becomes a list of fields.

    The usual extension, napoleon, takes the words before a colon in an attribute's docstring for its type.
    """
    if "Raises:" not in lines:
        return
    start = lines.index("Raises:")
    told = textwrap.dedent("\n".join(lines[start + 1 :])).strip("\n").split("\n")
    fields = [line if not line or line[0] == " " else f":raises {line}" for line in told]
    lines[start:] = fields


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", tell_raises)
    app.connect("missing-reference", find_public_name)
