"""Sphinx's configuration of the documentation site; `make docs` builds it."""

import json
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

# `docs.site` stages the pages, and Sphinx's working directory is the repository.
sys.path.insert(0, str(Path.cwd()))
from docs.site import docstrings
from lps_tf._version import __version__

project = "lps_tf"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["runs"]

html_theme = "furo"
html_title = f"lps_tf {__version__}"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

nb_execution_mode = "off"  # the notebooks are committed as they were executed
nb_merge_streams = True
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
# The pages use no other source of mathematics, and fetch nothing.
html_math_renderer = "mathml"

# Docstrings are prose in which backticks mark code.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

#: Code that names something public: `SmoothedClassifier.certify(x, ...)`.
_NAME = re.compile(r"^(?:lps\.)?([A-Za-z_][\w.]*)(?:\(.*\))?$", re.S)


def escape_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Makes reStructuredText of a docstring."""
    lines[:] = docstrings.escaped(lines)


def link_code(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Links code that names something public to its entry in the API."""
    domain = app.env.get_domain("py")
    in_api = docname.startswith("api/")
    for literal in list(doctree.findall(nodes.literal)):
        match = _NAME.match(literal.astext())
        if not match or isinstance(literal.parent, (nodes.reference, nodes.title)):
            continue
        # In prose, a word with an underscore may be the name of anything.
        if not (in_api or "." in match.group() or match.group()[0].isupper()):
            continue
        target = _find(app.config.api_aliases, domain.objects, match.group(1))
        if target is None:
            continue
        entry = domain.objects[target]
        reference = make_refnode(
            app.builder, docname, entry.docname, entry.node_id, literal.deepcopy()
        )
        literal.replace_self(reference)


def _find(aliases: dict[str, str], objects: dict, name: str) -> str | None:
    """The entry of a name, of an alias of it, or of a member of either."""
    first, *rest = name.split(".")
    for count in range(len(rest), -1, -1):
        prefix = ".".join([first, *rest[:count]])
        known = aliases.get(prefix, prefix)
        target = ".".join([known, *rest[count:]])
        if target in objects:
            return target
    return None


class MathML:
    """Formulas as MathML, which browsers draw by themselves."""

    @staticmethod
    def visit(translator: object, node: nodes.Element) -> None:
        """Writes a formula."""
        block = isinstance(node, nodes.math_block)
        tree = latex2mathml.tex2mathml(node.astext(), as_block=block)
        translator.body.append(str(tree))
        raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Registers what is above."""
    aliases = json.loads((Path(app.srcdir) / "api" / "aliases.json").read_text())
    app.add_config_value("api_aliases", aliases, "env")
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)
    app.connect("doctree-resolved", link_code)
    app.add_html_math_renderer("mathml", (MathML.visit, None), (MathML.visit, None))
