"""Whether a grammar in llama.cpp's notation describes a text: slow, complete, and other code than the engine's."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

# From a place in the text, every place where what is matched may end.
Ends = Iterator[int]
Matcher = Callable[[str, int], Ends]

_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[A-Za-z][A-Za-z0-9-]*|\{[0-9,]*\}|[()|*+?]'
)


def accepts(grammar: str, text: str) -> bool:
    """Whether `text` is all that `grammar` asks for, from its beginning to its end."""
    rules: dict[str, Matcher] = {}
    for line in grammar.splitlines():
        name, expression = line.split(" ::= ", 1)
        tokens = _TOKEN.findall(expression)
        assert "".join(tokens).replace(" ", "") == expression.replace(" ", ""), expression
        rules[name] = _choice(tokens, rules)
        assert not tokens, expression
    return len(text) in rules["root"](text, 0)


def _choice(tokens: list[str], rules: dict[str, Matcher]) -> Matcher:
    choices = [_sequence(tokens, rules)]
    while tokens and tokens[0] == "|":
        tokens.pop(0)
        choices.append(_sequence(tokens, rules))
    return lambda text, at: (end for choice in choices for end in choice(text, at))


def _sequence(tokens: list[str], rules: dict[str, Matcher]) -> Matcher:
    parts: list[Matcher] = []
    while tokens and tokens[0] not in "|)":
        parts.append(_repeated(_single(tokens, rules), tokens))

    def match(text: str, at: int) -> Ends:
        places = {at}
        for part in parts:
            places = {end for place in places for end in part(text, place)}
        return iter(places)

    return match


def _single(tokens: list[str], rules: dict[str, Matcher]) -> Matcher:
    token = tokens.pop(0)
    match token[0]:
        case "(":
            inner = _choice(tokens, rules)
            assert tokens.pop(0) == ")"
            return inner
        case '"' | "[":
            pattern = re.compile(re.escape(_unescaped(token[1:-1])) if token[0] == '"' else token)
            return lambda text, at: (m.end() for m in [pattern.match(text, at)] if m)
    return lambda text, at: rules[token](text, at)


def _repeated(once: Matcher, tokens: list[str]) -> Matcher:
    if not tokens or tokens[0][0] not in "*+?{":
        return once
    sign = tokens.pop(0)
    low, comma, high = {"*": "0,", "+": "1,", "?": "0,1"}.get(sign, sign[1:-1]).partition(",")
    least, most = int(low), int(high or low) if high or not comma else None

    def match(text: str, at: int) -> Ends:
        ends, places, times = set[int](), {at}, 0
        while places:
            if times >= least:
                places -= ends
                ends |= places
            if times == most:
                break
            places = {end for place in places for end in once(text, place)}
            times += 1
        return iter(ends)

    return match


@lru_cache
def _unescaped(literal: str) -> str:
    return re.sub(r"\\(x..|.)", lambda m: _ESCAPES.get(m[1]) or _character(m[1]), literal)


def _character(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) > 1 else escape


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
