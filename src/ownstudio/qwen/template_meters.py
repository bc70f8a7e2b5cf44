"""Puts meters into a parsed template, so that what Jinja compiles to plain Python pays from the budget as well.

A meter is a filter whose name begins with `~`, which no template can write. What cannot be metered is refused:
recursive loops, and everything that reaches for another template.
"""

from collections.abc import Iterable, Iterator

from jinja2 import TemplateSyntaxError, nodes
from jinja2.visitor import NodeTransformer

ROUNDS, PAY_FIXED, CONCATENATED, MEASURED = "~rounds", "~pay_fixed", "~concatenated", "~measured"
COMPARED, SEARCHED, SLICED = "~compared", "~searched", "~sliced"


def with_meters(tree: nodes.Template) -> nodes.Template:
    """Changes `tree` in place. Raises Jinja's TemplateSyntaxError for what cannot be metered."""
    _Meters().visit(tree)
    return tree


class _Meters(NodeTransformer):
    def visit(self, node: nodes.Node) -> nodes.Node:
        match node:
            case nodes.For(recursive=True):
                raise TemplateSyntaxError("recursive loops are not supported", node.lineno)
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                raise TemplateSyntaxError("other templates cannot be used", node.lineno)
            case nodes.Block():
                raise TemplateSyntaxError("blocks are not supported", node.lineno)
        self.generic_visit(node)
        match node:
            case nodes.For(iter=nodes.Expr() as items):
                node.iter = _filter(items, ROUNDS, _fixed_chars(node.body))
            case nodes.Macro() | nodes.CallBlock():
                zero = nodes.Const(0, lineno=node.lineno)
                fee = _filter(zero, PAY_FIXED, _fixed_chars(node.body))
                node.body.insert(0, nodes.ExprStmt(fee, lineno=node.lineno))
            case nodes.Concat():
                return _filter(nodes.List(node.nodes, lineno=node.lineno), CONCATENATED)
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _filter(node, MEASURED)
            case nodes.Getitem(arg=nodes.Slice()):
                return _filter(node, SLICED)
            case nodes.Compare():
                _meter_comparison(node)
        return node


def _meter_comparison(node: nodes.Compare) -> None:
    """No comparison is longer than the shorter of its sides, and what is written in the template is short."""
    left = node.expr
    for operand in node.ops:
        right = operand.expr
        if not _is_written_out(right):
            if operand.op in ("in", "notin"):
                operand.expr = _filter(right, SEARCHED)
            elif not _is_written_out(left):
                operand.expr = _filter(right, COMPARED)
        left = right


def _is_written_out(node: nodes.Expr) -> bool:
    """Whether `node` is short, or has paid for all that is in it."""
    return isinstance(node, nodes.Const) or (
        isinstance(node, nodes.Filter) and node.name == MEASURED
    )


def _filter(node: nodes.Expr, name: str, *arguments: int) -> nodes.Filter:
    consts: list[nodes.Expr] = [nodes.Const(argument) for argument in arguments]
    return nodes.Filter(node, name, consts, [], None, None, lineno=node.lineno)


def _fixed_chars(body: Iterable[nodes.Node]) -> int:
    """The length of the text that stands in `body` as it is."""
    return sum(len(data.data) for node in body for data in _template_data(node))


def _template_data(node: nodes.Node) -> Iterator[nodes.TemplateData]:
    if isinstance(node, nodes.TemplateData):
        yield node
    yield from node.find_all(nodes.TemplateData)
