"""Chat templates: what they can do, what they cannot reach, and that none of them runs away."""

import time
from datetime import UTC, datetime

import pytest

from ownstudio.qwen.template import ChatTemplate, TemplateError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "你好 <b>"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
]


INDENTED = '{\n "b": 1,\n "a": [\n  1.5,\n  null,\n  true\n ]\n}'


def render(source: str, **variables: object) -> str:
    return ChatTemplate(source).render({"messages": MESSAGES, **variables})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages[0]['content'] }}", "Be brief."),
        ("{% for m in messages %}{{ loop.index }}/{{ loop.length }} {% endfor %}", "1/3 2/3 3/3 "),
        ("{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}", "aus"),
        ("{% for m in messages if m.role != 'user' %}{{ m.role[0] }}{% endfor %}", "sa"),
        ("{% for m in messages %}{{ loop.previtem.role if loop.previtem }},{% endfor %}", ",system,user,"),
        ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}x{% endfor %}", "xx"),
        ("{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}", "yes"),
        ("{% for m in messages %}{{ m.content.startswith('Be') }} {% endfor %}", "True False False "),
        ("{{ messages[1] | tojson }}", '{"role": "user", "content": "你好 <b>"}'),
        ("{{ {'b': 1, 'a': [1.5, none, true]} | tojson(indent=1) }}", INDENTED),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "3"),
        ("{% macro twice(x) %}{{ x ~ x }}{% endmacro %}{{ twice('ab') }}{{ twice(1) }}", "abab11"),
        ("{{ 'a' + 'b' ~ 1 ~ none }}{{ 2 * 3 + 7 // 2 }}{{ 'xy' * 2 }}", "ab1None9xyxy"),
        ("{{ tools is defined }}{{ tools is none }}{{ nothing is defined }}", "TrueTrueFalse"),
        ("{{ messages | map(attribute='role') | join(', ') }}", "system, user, assistant"),
        ("{{ ', '.join(['a', 'b']) }}{{ 'aXbX'.replace('X', '--', 1) }}", "a, ba--bX"),
        ("{{ 'a\nb' | indent(2) }}{{ ' x ' | trim | upper }}", "a\n  bX"),
        ("{{ '%s is %d' % ('it', 3) }}{{ [1, 2] + [3] }}", "it is 3[1, 2, 3]"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x }}{% filter upper %}b{% endfilter %}", "a1B"),
        ("{% generation %}kept{% endgeneration %}", "kept"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"),
        ("{{ '<b>' | safe + '<' }}{{ args | items | list }}", "<b><[('k', 'v')]"),
        ("{{ 'Be' in messages[0].content }}{{ 'role' in messages[0] }}{{ 'x' not in nothing }}", "TrueTrueTrue"),
        ("{{ 1 in [1, 2] | reverse }}{{ 2 in args.values() }}{{ 0 < 1 < args | length }}", "TrueFalseFalse"),
        ("{{ messages[1:] == messages[:2] }}{{ messages[0] != messages[-1] }}{{ messages[1:][0] is eq messages[1] }}",
         "FalseTrueTrue"),
        ("{{ messages | selectattr('role', 'in', ['user']) | list | length }}{{ none | select | list }}", "1[]"),
        ("{{ [3, 1] | sort }}{{ [1, 1] | unique | list }}{{ {'b': 1, 'a': 2} | dictsort }}",
         "[1, 3][1][('a', 2), ('b', 1)]"),
        ("{{ 'ff' | int(0, 16) }}{{ 'x' | int(7) }}{{ 4 is divisibleby 2 }}{{ 3 is even }}", "2557TrueFalse"),
        ("{{ 'a-b-c'.rpartition('-') }}{{ 'a-b-c'.rsplit('-', 1) }}{{ '--a-' | trim('-') }}{{ [1] | upper }}",
         "('a-b', '-', 'c')['a-b', 'c']a[1]"),
        ("{{ messages[0].missing }}{{ messages[0].missing is defined }}", "False"),
    ],
)  # fmt: skip
def test_what_templates_use(source: str, text: str) -> None:
    assert render(source, tools=None, args={"k": "v"}) == text


def test_the_template_refuses_in_its_own_words() -> None:
    with pytest.raises(TemplateError, match=r"^Roles must alternate") as caught:
        render("{{ raise_exception('Roles must alternate' + '!' * 1000) }}")
    assert caught.value.refused
    assert len(str(caught.value)) == 500


def test_the_time_comes_from_outside() -> None:
    source = "{{ strftime_now('%d %b %Y %-H%%') }}"
    clocked = ChatTemplate(source, clock=lambda: datetime(2026, 1, 2, 3, tzinfo=UTC))
    assert clocked.render({}) == "02 Jan 2026 3%"
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source).render({})
    assert not caught.value.refused
    with pytest.raises(TemplateError):
        ChatTemplate(
            "{{ strftime_now('%999999999d') }}", clock=lambda: datetime.now(tz=UTC)
        ).render({})


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in %}",
        "{{ 'a' | no_such_filter }}",
        "{{ x is no_such_test }}",
        "{% include 'other' %}",
        "{% import 'other' as o %}",
        "{% extends 'other' %}",
        "{% block a %}{% endblock %}",
        "{% for x in messages recursive %}{{ loop(x) }}{% endfor %}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "-" * 20_000 + "1 }}",
        "{% if x %}" * 200 + "{% endif %}" * 200,
        "x" * 600_000,
    ],
)
def test_what_cannot_be_compiled(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source)
    assert not caught.value.refused


@pytest.mark.parametrize(
    "source",
    [
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'].x }}",
        "{{ messages | attr('__class__') }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ range.__class__.x }}",
        "{{ cycler(1) }}",
        "{{ '{:>9}'.format(1) }}",
        "{{ '{0.__class__}'.format_map({}) }}",
        "{{ 'a'.zfill(3) }}",
        "{{ loop }}{% for x in messages %}{{ [loop] }}{% endfor %}",
        "{{ 'x' % '%' * 2 + '%9999999d' % 1 }}",
        "{{ lipsum() }}",
        "{{ [1] | tojson(indent=10000000) }}",
    ],
)
def test_what_cannot_be_rendered(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert not caught.value.refused
    assert "jinja" not in str(caught.value).lower()


LONG = "x" * 9999
MACRO = "{% macro m() %}" + LONG + "{% endmacro %}"
CALLED = "{% macro m() %}{{ caller() }}{% endmacro %}"
MANY = "{% for i in range(100000) %}"
NUMBERS = "{% set a = [-1] * 200000 %}"
# Lists of one list many times over: small to hold, long to compare. `z` differs from those in its last item.
SHARED = (
    "{% set x = range(50000) | list %}{% set y = range(50000) | list %}"
    "{% set z = range(49999) | list + ['z'] %}"
    "{% set a = range(2000) | map(attribute='_', default=x) | list %}"
    "{% set b = range(2000) | map(attribute='_', default=y) | list %}"
)


def each_kept(expression: str, times: int) -> str:
    return "".join(f"{{% set kept{i} = {expression} %}}" for i in range(times))


GREEDY = {
    "loops": MANY * 3 + "{% endfor %}" * 3,
    "fixed text in loops": MANY + "x" * 10_000 + "{% endfor %}",
    "fixed text in a macro": MACRO + MANY + "{% set y = m() %}{% endfor %}",
    "a call block": CALLED + MANY + "{% set y %}{% call m() %}" + LONG + "{% endcall %}{% endset %}{% endfor %}",
    "doubled text": "{% set n = namespace(s='ab') %}" + MANY + "{% set n.s = n.s + n.s %}{% endfor %}",
    "doubled by ~": "{% set n = namespace(s='ab') %}" + MANY + "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubled lists": "{% set n = namespace(s=[1]) %}" + MANY + "{% set n.s = n.s + n.s %}{% endfor %}",
    "lists in lists": "{% set n = namespace(s=[1]) %}" + MANY + "{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
    "dicts in dicts": "{% set n = namespace(s={}) %}" + MANY + "{% set n.s = {1: n.s, 2: n.s} %}{% endfor %}",
    "deep lists": "{% set n = namespace(s=[]) %}" + MANY + "{% set n.s = [n.s] %}{% endfor %}{{ n.s }}",
    "repeated text": "{{ 'x' * 1000000000 }}",
    "repeated from the left": "{{ 1000000000 * 'x' }}",
    "repeated lists": "{{ [[1] * 100000] * 100000 }}",
    "powers": "{{ 10 ** (10 ** 10) }}",
    "big numbers": "{% set n = namespace(s=9) %}" + MANY + "{% set n.s = n.s * n.s %}{% endfor %}",
    "replace": "{% set a = 'x' * 100000 %}{{ a.replace('x', a) }}",
    "replace nothing": "{% set a = 'x' * 100000 %}{{ a | replace('', a) }}",
    "join": "{{ ('x' * 1000000).join(range(100000) | map('string')) }}",
    "join by filter": "{{ range(100000) | join('x' * 1000000) }}",
    "indent": "{{ ('\n' * 1000000) | indent(1000000) }}",
    "indent by text": "{{ ('\n' * 1000000) | indent('x' * 1000000) }}",
    "defaults": "{% set b = 'x' * 1000000 %}{{ range(100000) | map(attribute='a', default=b) | sort | length }}",
    "many big references": "{% set b = 'x' * 1000000 %}{{ ([b] * 100000) | tojson }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "output": MANY + "{{ messages[1].content * 1000 }}{% endfor %}",
    "split": "{% set b = 'x ' * 1000000 %}" + MANY + "{% set c = b.split() %}{% endfor %}",
    "slow filters": MANY + "{% set c = range(100000) | list | sort %}{% endfor %}",
    "slow searches": "{% set b = 'ab' * 500000 %}" + MANY + "{% set c = 'ba' * 1000 + 'c' in b %}{% endfor %}",
    "one range": "{{ range(10000000000) | list }}",
    "searches in a list": "{% set a = [-1] * 6000 %}{{ range(100000) | select('in', a) | list | length }}",
    "searches one by one": NUMBERS + "{% set c = 1 in a %}" * 200,
    "searches for what is not there": NUMBERS + "{% set c = 1 not in a %}" * 200,
    "searches in a range": "{% set a = range(100000) %}" + "{% set c = 'a' in a %}" * 400,
    "searches in shared lists": SHARED + "{{ z in a }}",
    "searches in a reversed list": SHARED + "{{ z in a | reverse }}",
    "comparisons": NUMBERS + "{% set b = [-1] * 200000 %}" + "{% set c = a == b %}" * 200,
    "comparisons by a test": NUMBERS + "{% set b = [-1] * 200000 %}" + "{% set c = a is eq b %}" * 200,
    "a comparison of shared lists": SHARED + "{{ a == b }}",
    "a loop that compares": SHARED + "{% for i in 'ab' %}{{ loop.changed(a if loop.first else b) }}{% endfor %}",
    "counting": SHARED + "{{ a.count(z) }}",
    "sorting": SHARED + "{{ range(20000) | map(attribute='_', default=x) | list | sort | length }}",
    "selected items": NUMBERS + "{% set c = a | select('none') | list %}" * 14,
    "rejected items": NUMBERS + "{% set c = a | reject('integer') | list %}" * 14,
    "items selected by attribute": NUMBERS + "{% set c = a | selectattr('_') | list %}" * 14,
    "items rejected by attribute": NUMBERS + "{% set c = a | rejectattr('_', 'undefined') | list %}" * 14,
    "items that are not unique": NUMBERS + "{% set c = a | unique | list %}" * 14,
    "a long path": "{% set p = '_.' * 1000000 %}{{ range(3) | map(attribute=p, default={}) | list | length }}",
    "slices": "{% set a = 'x' * 1000000 %}" + each_kept("a[1:]", 150),
    "slices of lists": NUMBERS + each_kept("a[1:]", 200),
    "partition": "{% set a = 'xy' * 1000000 %}" + each_kept("a.partition('y')", 150),
    "rpartition": "{% set a = 'xy' * 1000000 %}" + each_kept("a.rpartition('y')", 150),
    "lists of new numbers": each_kept("range(100000) | list", 60),
    "numbers in base 16": "{{ ('f' * 600000) | int(0, 16) is divisibleby(('f' * 300000) | int(0, 16)) }}",
    "signs of big numbers": "{% set a = ('f' * 600000) | int(base=16) %}" + each_kept("-a", 100),
    "a format in a test": "{{ '%99999999d' is odd }}{{ '%99999999d' is divisibleby 3 }}",
    "lists as texts": SHARED + "{{ (a | upper) | length }}",
    "lists as texts in a test": SHARED + "{{ a is lower }}",
    "searches from the end": "{{ ('x' * 1000000).rfind('xy' + 'x' * 500000) }}",
    "splits from the end": "{{ ('x' * 1000000).rsplit(sep='xy' + 'x' * 500000) | length }}",
    "many characters to strip": "{{ ('x' * 500000).strip('y' * 500000 + 'x') }}",
    "many characters to trim": "{{ ('x' * 500000) | trim('y' * 500000 + 'x') }}",
    "constants": "{{ 'x' | indent(1000000000) }}{{ 'x' | replace('x', 'y' * 1000000000) }}",
}  # fmt: skip


@pytest.mark.parametrize("source", GREEDY.values(), ids=GREEDY)
def test_no_template_runs_away(source: str) -> None:
    started = time.perf_counter()
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, seconds_max=0.3).render({"messages": MESSAGES})
    assert not caught.value.refused
    # The deadline, one operation that was under way, and the other work of a busy machine.
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(
    "name",
    [
        *("slices", "slices of lists", "partition", "rpartition", "lists of new numbers"),
        *("numbers in base 16", "signs of big numbers", "searches from the end"),
        *("splits from the end", "many characters to strip", "many characters to trim"),
    ],
)
def test_it_is_not_the_clock_alone_that_stops_it(name: str) -> None:
    with pytest.raises(TemplateError, match="too much time or memory"):
        ChatTemplate(GREEDY[name], seconds_max=1000).render({})


def test_a_budget_is_for_one_render() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content * 100 }}{% endfor %}")
    long = [{"content": "x" * 1000}] * 30
    for _ in range(20):
        assert len(template.render({"messages": long})) == 3_000_000


def test_long_conversations_fit() -> None:
    source = (
        "{% for m in messages %}{% set c = m.content.split('</think>')[-1].lstrip('\\n') %}"
        "{{ '<|im_start|>' + m.role + '\\n' + c + '<|im_end|>' + '\\n' }}{% endfor %}"
    )
    messages = [{"role": "user", "content": "word " * 200}] * 4000
    text = ChatTemplate(source, seconds_max=20).render({"messages": messages})
    assert text.count("<|im_start|>") == 4000
