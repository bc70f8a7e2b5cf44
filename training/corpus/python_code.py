"""Python exercises: the classics, list pipelines, small classes and tests, under many names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from string import Template
from typing import Any

from training.corpus import words
from training.corpus.classics import CLASSICS, LOCALS, PLAIN_LOCALS, Classic
from training.corpus.conversation import assistant, conversation, system_turn, user
from training.corpus.source import Pool, Sample, Source, lines, spaced

LETTERS = "abcd"


@dataclass(frozen=True)
class Exercise:
    """One concrete task: names chosen, answer written, tests ready to run."""

    name: str
    title: str
    chinese: str
    parameters: tuple[tuple[str, str], ...]  # kind, name
    does: str
    code: str
    tests: tuple[str, ...]
    example: str
    own_name: bool  # the name says nothing about the task, so the request must give it

    @property
    def checks(self) -> str:
        return "\n".join(f"assert {test}" for test in self.tests)

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(name for _, name in self.parameters)})"


@dataclass(frozen=True)
class CodeTask:
    """A request, the code that answers it, and statements that fail where the code is wrong."""

    request: str
    code: str
    checks: str


MEANINGLESS = lines(
    """compute_{w}
    make_{w}
    do_{w}
    run_{w}
    get_{w}
    {w}
    {w}_{v}
    solve_{w}
    my_{w}
    {w}_function
    handle_{w}
    process_{w}
    task_{n}
    func_{n}
    f{n}
    solution"""
)


def function_name(source: Source, known: Pool) -> tuple[str, bool]:
    if source.chance(0.6):
        return source.pick(known), False
    pattern = source.pick(MEANINGLESS)
    made = pattern.format(w=words.word(source), v=words.word(source), n=source.number(1, 99))
    return made.lower(), True


def from_classic(source: Source, classic: Classic, *, free_locals: bool) -> Exercise:
    name, own_name = function_name(source, classic.names)
    parameters: list[tuple[str, str]] = []
    for described in classic.parameters:
        kind, default, *others = described.split()
        chosen = default if source.chance(0.4) else source.random.choice([default, *others])
        if source.chance(0.1):
            chosen = words.word(source)
        if chosen in (used for _, used in parameters):
            chosen = default
        parameters.append((kind, chosen))
    local = dict(PLAIN_LOCALS)
    if free_locals:
        local = {key: words.varied(source, pool, 0.3) for key, pool in LOCALS.items()}
    # A local must not hide a parameter or another local.
    taken = {chosen for _, chosen in parameters}
    for key, chosen in local.items():
        local[key] = f"{chosen}_" if chosen in taken else chosen
        taken.add(local[key])
    names = {"f": name, **local}
    names |= {letter: chosen for letter, (_, chosen) in zip(LETTERS, parameters, strict=False)}

    def fill(text: str) -> str:
        return Template(text).substitute(names)

    return Exercise(
        name,
        classic.title,
        classic.chinese,
        tuple(parameters),
        fill(source.pick(classic.does)),
        fill(classic.code),
        tuple(fill(test) for test in classic.tests),
        f"{name}({classic.example})",
        own_name,
    )


# Pipelines: which items, what of them, put together how. Three small choices, many tasks.
KEEP: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("even", "{x} % 2 == 0", lambda x, k: x % 2 == 0),
    ("odd", "{x} % 2 == 1", lambda x, k: x % 2 == 1),
    ("positive", "{x} > 0", lambda x, k: x > 0),
    ("negative", "{x} < 0", lambda x, k: x < 0),
    ("greater than {k}", "{x} > {k}", lambda x, k: x > k),
    ("less than {k}", "{x} < {k}", lambda x, k: x < k),
    ("divisible by {k}", "{x} % {k} == 0", lambda x, k: x % k == 0),
)
CHANGE: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("the squares of ", "{x} ** 2", lambda x: x**2),
    ("the cubes of ", "{x} ** 3", lambda x: x**3),
    ("the doubles of ", "{x} * 2", lambda x: x * 2),
    ("the absolute values of ", "abs({x})", abs),
    ("", "{x}", lambda x: x),
)
GATHER: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("the sum of {things}", "sum({all})", sum),
    ("a list of {things}", "[{all}]", list),
    ("a set of {things}", "{{{all}}}", set),
    ("the number of {things}", "len([{all}])", len),
    ("the sorted list of {things}", "sorted({all})", sorted),
)
PIPELINE_NAMES = spaced(
    "filter_numbers pick_numbers select_numbers gather_numbers total_of collect work_out numbers_of"
)
PROBE = [-7, -6, -3, -2, 0, 1, 2, 3, 4, 5, 6, 9, 10, 12, 15, 21, 40]


def held_out_pipeline(keep: int, change: int, gather: int) -> bool:
    return (keep * 3 + change * 5 + gather * 7) % 9 == 4


def pipeline(source: Source) -> Exercise:
    while True:
        keep, change, gather = (
            source.random.randrange(len(choices)) for choices in (KEEP, CHANGE, GATHER)
        )
        if held_out_pipeline(keep, change, gather) == source.held_out:
            break
    which, condition, kept = KEEP[keep]
    what, expression, changed = CHANGE[change]
    how, shape, gathered = GATHER[gather]
    bound = source.number(2, 20)
    name, _ = function_name(source, PIPELINE_NAMES)
    values = source.random.choice(("numbers", "items", "values", "nums", "data", "arr", "lst"))
    things = f"{what}all {which.format(k=bound)} numbers in {values}"
    every = f"{expression} for x in {values} if {condition}".format(x="x", k=bound)
    code = f"def {name}({values}):\n    return {shape.format(all=every)}"
    expected = gathered([changed(x) for x in PROBE if kept(x, bound)])
    return Exercise(
        name,
        "",
        "",
        (("list", values),),
        f"returns {how.format(things=things)}",
        code,
        (f"{name}({PROBE}) == {expected!r}", f"{name}([]) == {gathered([])!r}"),
        f"{name}([1, 2, 3, 4])",
        True,
    )


FIELDS = spaced(
    """name age email price title author year size color weight height city country phone address
    score level speed amount owner status kind length width brand model color rating balance"""
)
CLASS_NAMES = spaced(
    """Person Book Car Animal Product Student Teacher Employee House Dog Cat Movie Song Player
    Account Order Customer City Country Phone Computer Robot Ship Plane Tree Flower Recipe Game"""
)
CLASS_WORDINGS = lines(
    """Write a Python class {c} with the attributes {fields}.
    Write a class {c} with {fields}.
    Create a Python class named {c} that has the attributes {fields}.
    Define a class called {c} with the fields {fields}.
    Please write a Python class {c} that stores {fields}.
    I need a Python class {c} with the attributes {fields}.
    Give me a class skeleton {c} in Python with {fields}.
    Make a class {c} in Python. Its attributes are {fields}."""
)


def join_words(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def class_task(source: Source) -> CodeTask:
    name = source.pick(CLASS_NAMES) if source.chance(0.7) else words.made_up(source).capitalize()
    fields = source.several(FIELDS, source.random.choice((1, 2, 2, 3, 4)))
    if source.chance(0.2):
        fields[-1] = words.made_up(source)
    code = f"class {name}:\n    def __init__(self, {', '.join(fields)}):\n"
    code += "\n".join(f"        self.{field} = {field}" for field in fields)
    request = source.pick(CLASS_WORDINGS).format(c=name, fields=join_words(fields))
    values = ", ".join(str(place) for place in range(len(fields)))
    tests = [f"{name}({values}).{field} == {place}" for place, field in enumerate(fields)]
    if source.chance(0.4):
        shown = source.random.choice(fields)
        request += f" Its __str__ returns the {shown}."
        code += f"\n\n    def __str__(self):\n        return str(self.{shown})"
        tests.append(f"str({name}({values})) == {str(fields.index(shown))!r}")
    return CodeTask(request, code, "\n".join(f"assert {test}" for test in tests))


TEST_WORDINGS = lines(
    """Write a test for {f} which checks that {call} returns {value}.
    Write a Python test that checks that {call} is {value}.
    Write a pytest test for {f}: {call} must be {value}.
    Write a unit test that asserts that {call} equals {value}.
    Please write a pytest function that tests that {call} gives {value}.
    Test that {call} returns {value}. Write a pytest function.
    I need a test: {call} should return {value}."""
)


def assertion_task(source: Source) -> CodeTask:
    name = f"{words.word(source)}_{words.word(source)}"
    arguments = ", ".join(_literal(source) for _ in range(source.random.choice((1, 1, 2))))
    call, value = f"{name}({arguments})", _literal(source)
    request = source.pick(TEST_WORDINGS).format(f=name, call=call, value=value)
    code = f"def test_{name}():\n    assert {call} == {value}"
    # The test must pass for a function that knows this one call, and fail for any other answer.
    right = f"{name} = lambda *given: {value} if [*given] == [{arguments}] else None"
    wrong = (
        f"{name} = lambda *given: ...\ntry:\n    test_{name}()\nexcept AssertionError:\n    pass"
    )
    checks = f"{right}\ntest_{name}()\n{wrong}\nelse:\n    raise AssertionError"
    return CodeTask(request, code, checks)


def _literal(source: Source) -> str:
    roll = source.random.random()
    if roll < 0.5:
        return str(source.number(-20, 200))
    if roll < 0.75:
        return f'"{words.word(source)}"'
    return str([source.number(0, 30) for _ in range(source.random.randint(1, 3))])


ONLY_CODE = lines(
    """Do not output any content other than the code and do not use Markdown code blocks.
    Do not output non-code content or Markdown code blocks.
    Only output the code.
    Output only code.
    Return only code. Do not include any explanations, comments, or Markdown tags.
    Just the code, please.
    Only code.
    Only the code, no explanation.
    No explanation and no Markdown.
    Answer with nothing but the code.
    Please answer with code only.
    Write only the code without Markdown.
    Code only, no Markdown code block.
    Reply with plain code and nothing else.
    不要输出任何非代码的内容和 Markdown 代码块。
    只输出代码。""",
    "Do not output any content other than the code and do not use Markdown code blocks.",
    "Do not output non-code content or Markdown code blocks.",
)

NAMED_WORDINGS = lines(
    """Write a Python function named {f} that accepts {params} and {does}.
    Write a Python function named {f} that accepts {params} as a parameter and {does}.
    Write a Python function {s} that {does}.
    Write a function {s} in Python that {does}.
    Write a Python function named {f} that {does}.
    Write a function called {f} that takes {params} and {does}.
    Please write a Python function {f} which takes {params} and {does}.
    Implement {s} in Python: it {does}.
    Implement a function {f} that {does}. It takes {params}.
    Create a Python function {s} which {does}.
    Define {s}. It {does}.
    I need a Python function named {f} that {does}.
    Can you write a Python function {s} that {does}?
    Could you write {s}, a function that {does}?
    Help me write a Python function {f} that accepts {params} and {does}.
    Give me the Python function {s} that {does}.
    Code a Python function {f} that takes {params} and {does}.
    Python function {s} that {does}.""",
    "Write a Python function named {f} that accepts {params} as a parameter and {does}.",
)
UNNAMED_WORDINGS = lines(
    """Write a Python function that {does}.
    Write a function that {does}.
    Please write a Python function that {does}.
    I need a function in Python that {does}.
    Can you write a function that {does}?
    Give me Python code that {does}.
    Show me a Python function which {does}.
    How do I write a Python function that {does}?
    Help me write a function that {does}."""
)
TITLE_WORDINGS = lines(
    """Write a Python function for {t}.
    Write {t} in Python.
    Write a Python {t} function.
    Show me {t} in Python.
    Implement {t} in Python.
    Please implement {t}.
    {t} in Python
    Can you write {t} in Python?
    I need Python code for {t}.
    Give me a Python example of {t}."""
)
CHINESE_WORDINGS = lines(
    """用 Python 写一个{z}函数。
    请用 Python 实现{z}。
    写一个{z}的 Python 函数。
    请编写一个 Python 函数，实现{z}。
    帮我写一个{z}的函数。"""
)
SCRIPT_WORDINGS = lines(
    """Write a Python script for {t}.
    Help me write a Python script for {t}.
    Help me write a Python script to generate {t}.
    Please write a script for {t} in Python.
    Write a small Python program for {t}.
    Give me a Python script that shows {t}.
    Write a runnable Python script for {t} with an example."""
)
ARTICLES = {"integer": "an integer", "number": "a number", "string": "a string", "list": "a list"}


def described_parameters(exercise: Exercise) -> str:
    told = [f"{ARTICLES.get(kind, f'a {kind}')} {name}" for kind, name in exercise.parameters]
    return " and ".join(told)


def named_task(source: Source, exercise: Exercise) -> CodeTask:
    fields = {
        "f": exercise.name,
        "s": exercise.signature,
        "params": described_parameters(exercise),
        "does": exercise.does,
    }
    request = source.pick(NAMED_WORDINGS).format(**fields)
    return CodeTask(request, exercise.code, exercise.checks)


def default_names(classic: Classic) -> dict[str, str]:
    names = {"f": classic.default_name, **PLAIN_LOCALS}
    for letter, described in zip(LETTERS, classic.parameters, strict=False):
        names[letter] = described.split()[1]
    return names


def default_code(classic: Classic) -> str:
    return Template(classic.code).substitute(default_names(classic))


def script(classic: Classic) -> str:
    """The function and a call of it whose result is printed."""
    call = f"{classic.default_name}({classic.example})"
    return f"{default_code(classic)}\n\n\nprint({call})"


def unnamed_task(source: Source, classic: Classic) -> CodeTask:
    """Nobody named anything, so the answer uses the names that everybody would."""
    names, code = default_names(classic), default_code(classic)
    checks = "\n".join(f"assert {Template(test).substitute(names)}" for test in classic.tests)
    roll = source.random.random()
    if roll < 0.35:
        does = Template(source.pick(classic.does)).substitute(names)
        request = source.pick(UNNAMED_WORDINGS).format(does=does)
    elif roll < 0.65:
        request = source.pick(TITLE_WORDINGS).format(t=classic.title)
    elif roll < 0.8:
        request = source.pick(CHINESE_WORDINGS).format(z=classic.chinese)
    else:
        request, code = source.pick(SCRIPT_WORDINGS).format(t=classic.title), script(classic)
    return CodeTask(request, code, checks)


def any_exercise(source: Source, *, free_locals: bool = False) -> Exercise:
    if source.chance(0.75):
        return from_classic(source, source.random.choice(CLASSICS), free_locals=free_locals)
    return pipeline(source)


def any_task(source: Source) -> CodeTask:
    roll = source.random.random()
    if roll < 0.58:
        return named_task(source, any_exercise(source))
    if roll < 0.8:
        return unnamed_task(source, source.random.choice(CLASSICS))
    if roll < 0.91:
        return class_task(source)
    return assertion_task(source)


def with_form(source: Source, task: CodeTask) -> tuple[str, str]:
    """Bare code where only code is wanted, otherwise a Markdown block."""
    if source.chance(0.6):
        return f"{task.request} {source.pick(ONLY_CODE)}", task.code
    return task.request, f"```python\n{task.code}\n```"


def generate(source: Source) -> Sample:
    messages = system_turn(source)
    for _ in range(source.random.choice((1, 1, 2))):
        request, answer = with_form(source, any_task(source))
        messages += [user(request), assistant(answer)]
    return conversation(messages)
