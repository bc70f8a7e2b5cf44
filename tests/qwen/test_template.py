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
