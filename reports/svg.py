"""SVG: a figure as text that a page can hold. Colours as CSS variables, own ids, nothing from outside."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from reports import palette
from reports.canvas import SETTINGS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Variables:
    """Colours by role that stand for CSS variables: each role gets a colour that nothing else has.

    Call it with a role while drawing; `restore` puts the variables where the colours are.
    """

    def __init__(self) -> None:
        self.roles: dict[str, str] = {}

    def __call__(self, role: str) -> str:
        return self.roles.setdefault(role, f"#0{len(self.roles) + 1:03x}fd")

    def restore(self, svg: str) -> str:
        stands = {colour: f"var({variable(role)})" for role, colour in self.roles.items()}
        return re.sub(r"#0[0-9a-f]{3}fd", lambda found: stands.get(found[0], found[0]), svg)

    def rules(self, styles: Mapping[str, palette.Style], dark: bool) -> str:
        """The CSS declarations of every role that was asked for."""
        colours = {role: palette.colour(role, styles) for role in sorted(self.roles)}
        return " ".join(f"{variable(role)}: {colour[dark]};" for role, colour in colours.items())


def variable(role: str) -> str:
    """The CSS variable of a role: --ink, --k-blas, --op-dW. Distinct for distinct roles."""
    family, _, name = role.partition(":")
    if not name:
        return f"--{family}"
    plain = re.sub(r"[^A-Za-z0-9-]", lambda sign: f"_{ord(sign[0]):x}", name)
    return f"--{'k' if family == 'kernel' else 'op'}-{plain}"


def drawn(figure: Figure) -> str:
    """The figure as Matplotlib writes it."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with matplotlib.rc_context(SETTINGS):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return out.getvalue()


def standalone(figure: Figure) -> str:
    """A file of its own: Matplotlib's, with fonts that every system has."""
    return re.sub(r"font-family: [^;\"]*", f"font-family: {STACK}", drawn(figure))


def inline(figure: Figure, name: str, title: str, description: str, tips: Mapping[str, str]) -> str:
    """An <svg> element for a page.

    name         unique on the page; every id in it starts with it
    title        read out by a screen reader, with the description
    tips         artist id -> text that the pointer shows
    """
    root = ElementTree.fromstring(drawn(figure))
    used = {link.lstrip("#") for node in root.iter() for key, link in node.attrib.items() if key == LINK}
    used |= set(re.findall(r"url\(#([^)]+)\)", ElementTree.tostring(root, encoding="unicode")))
    short = {old: f"{name}-{at}" for at, old in enumerate(sorted(used))}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata") or child.tag.endswith("}style"):
                parent.remove(child)
    for node in root.iter():
        _own(node, short, tips)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-t {name}-d",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for at, (tag, text) in enumerate((("title", title), ("desc", description))):
        node = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{tag[0]}"})
        node.text = text
        root.insert(at, node)
    ElementTree.register_namespace("", SVG)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r"\s*\n\s*", " ", re.sub(r">\s+<", "><", text)).replace(f' xmlns="{SVG}"', "")


def _own(node: ElementTree.Element, short: Mapping[str, str], tips: Mapping[str, str]) -> None:
    old = node.attrib.pop("id", "")
    if old in short:
        node.set("id", short[old])
    if old in tips:
        title = ElementTree.Element(f"{{{SVG}}}title")
        title.text = tips[old]
        node.insert(0, title)
    if LINK in node.attrib:
        node.set("href", "#" + short[node.attrib.pop(LINK).lstrip("#")])
    for key, value in node.attrib.items():
        if "url(#" in value:
            node.set(key, re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{short[found[1]]})", value))
    if "style" in node.attrib:  # the page's own font
        node.set("style", re.sub(r"font-family: [^;]*(; )?", "", node.attrib["style"]))
