"""Conversations with functions: call, read the result, answer in words, and stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.chat import Message, Tool
from training.corpus import identity, words
from training.corpus.classics import CLASSICS
from training.corpus.conversation import assistant, conversation, system_turn, user
from training.corpus.functions import Offered, ask, offer, result_of
from training.corpus.python_code import script
from training.corpus.source import Sample, Source, lines

XML_SHARE = 0.6  # in training: where a value goes is harder to see in this form
NO_FUNCTION = "I have no function for that."


@dataclass(frozen=True)
class Step:
    """One call with its result."""

    name: str
    arguments: dict[str, Any]
    result: str


@dataclass(frozen=True)
class Task:
    """What the user asks, the calls that it takes (none where no function fits), the answer."""

    request: str
    steps: tuple[Step, ...]
    answer: str


@dataclass(frozen=True)
class ToolTalk:
    tools: tuple[Tool, ...]
    tasks: tuple[Task, ...]


def tool_form(source: Source) -> str:
    return "xml" if source.chance(0.5 if source.held_out else XML_SHARE) else "json"


def call(step: Step) -> Message:
    function = {"name": step.name, "arguments": step.arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": function}],
    }


def told(task: Task) -> list[Message]:
    messages = [user(task.request)]
    for step in task.steps:
        messages += [call(step), {"role": "tool", "content": step.result}]
    return [*messages, assistant(task.answer)]


def step_and_words(source: Source, offered: Offered) -> tuple[str, Step, str]:
    request, arguments = ask(source, offered)
    result, said = result_of(source, offered, arguments)
    return request, Step(offered.name, arguments, result), said


def single(source: Source, offered: Sequence[Offered]) -> Task:
    request, step, said = step_and_words(source, source.random.choice(offered))
    return Task(request, (step,), said)


def terse(source: Source, offered: Sequence[Offered]) -> Task:
    """A call whose result says nothing: the request is all that there is to learn from."""
    chosen = source.random.choice(offered)
    request, arguments = ask(source, chosen)
    return Task(request, (Step(chosen.name, arguments, "OK"),), "Done.")


def double(source: Source, offered: Sequence[Offered]) -> Task:
    """Two wishes in one breath: one call after the other, then both results."""
    pair = source.random.sample(list(offered), 2)
    (first, one, said), (second, two, also) = (step_and_words(source, each) for each in pair)
    return Task(f"{first} {second}", (one, two), f"{said} {also}")


def without(source: Source, offered: Sequence[Offered]) -> Task:
    """No function fits: talk, or say so."""
    if source.chance(0.5):
        request, answer = identity.identity_exchange(source)
        return Task(request, (), answer)
    nouns = {each.noun for each in offered}
    while (stranger := offer(source)).noun in nouns:
        pass
    return Task(ask(source, stranger)[0], (), NO_FUNCTION)


def several(source: Source, count: int, *, brief: bool = False) -> list[Offered]:
    """Functions of different names and purposes."""
    offered: dict[str, Offered] = {}
    while len(offered) < count:
        each = offer(source, brief=brief)
        if each.name not in (other.name for other in offered.values()):
            offered.setdefault(each.noun, each)
    return list(offered.values())


def brief(source: Source) -> ToolTalk:
    """Much to choose between, or many values to take, in few words: the densest practice."""
    if source.chance(0.5):
        listed = several(source, source.random.randint(2, 6), brief=True)
    else:
        listed = several(source, source.random.randint(1, 3))
    tasks: list[Task] = []
    for _ in range(source.random.randint(3, 8)):
        roll = source.random.random()
        if roll < 0.1 and len(listed) > 1:
            tasks.append(double(source, listed))
        else:
            tasks.append((terse if roll < 0.7 else single)(source, listed))
    return ToolTalk(tuple(each.schema for each in listed), tuple(tasks))


def mixed(source: Source) -> ToolTalk:
    count = source.random.choice((1, 2, 2, 3, 3, 4, 5))
    listed = several(source, count)
    tasks: list[Task] = []
    for _ in range(source.random.randint(1, 6)):
        roll = source.random.random()
        if roll < 0.16:
            tasks.append(without(source, listed))
        elif roll < 0.28 and count > 1:
            tasks.append(double(source, listed))
        else:
            tasks.append(single(source, listed))
    return ToolTalk(tuple(each.schema for each in listed), tuple(tasks))


CLOCK_AND_WEATHER: tuple[Tool, ...] = (
    {
        "type": "function",
        "function": {
            "name": "get_current_time",
            "description": "Useful for when you want to know the current time.",
            "parameters": {},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Useful for querying the weather in a specific city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {
                        "type": "string",
                        "description": "A city or county, such as Beijing, Hangzhou, "
                        "or Yuhang District.",
                    }
                },
            },
            "required": ["location"],
        },
    },
)
WEATHER_QUESTIONS = lines(
    """What is the weather in {}?
    How is the weather in {}?
    What's the weather like in {}?
    Tell me the weather in {}.
    Is it raining in {}?
    Weather in {}?
    How is the weather in {} today?
    What is the weather in {} now?
    {}天气怎么样？
    {}今天天气如何？""",
    "What is the weather in {}?",
    "How is the weather in {}?",
)
TIME_QUESTIONS = lines(
    """What time is it?
    What time is it now?
    What is the time?
    What's the current time?
    Tell me the time.
    Can you tell me what time it is?
    What time will it be in an hour?
    Which day is it today?
    现在几点了？
    几点了？""",
    "What time is it?",
    "What time is it now?",
    "What time will it be in an hour?",
)


def weather_step(source: Source) -> tuple[str, Step, str]:
    place = words.place(source)
    said = f"It is {source.pick(words.WEATHER)} in {place} today."
    step = Step("get_current_weather", {"location": place}, said + source.random.choice((" ", "")))
    return source.pick(WEATHER_QUESTIONS).format(place), step, said


def time_step(source: Source) -> tuple[str, Step, str]:
    said = f"Current time: {words.timestamp(source)}."
    return source.pick(TIME_QUESTIONS), Step("get_current_time", {}, said), said


def clock_and_weather(source: Source) -> ToolTalk:
    """The loop of the vendor's first tool page."""
    tasks: list[Task] = []
    for _ in range(source.random.choice((1, 1, 2))):
        roll = source.random.random()
        if roll < 0.35:
            request, step, said = weather_step(source)
            tasks.append(Task(request, (step,), said))
        elif roll < 0.55:
            request, step, said = time_step(source)
            tasks.append(Task(request, (step,), said))
        elif roll < 0.85:
            pair = [weather_step(source), time_step(source)]
            source.random.shuffle(pair)
            (first, one, said), (second, two, also) = pair
            tasks.append(Task(f"{first} {second}", (one, two), f"{said} {also}"))
        else:
            tasks.append(Task(*_talk(source)))
    tools = list(CLOCK_AND_WEATHER)
    if source.chance(0.3):
        tools.reverse()
    return ToolTalk(tuple(tools), tuple(tasks))


def _talk(source: Source) -> tuple[str, tuple[Step, ...], str]:
    request, answer = identity.identity_exchange(source)
    return request, (), answer


WRITING_WORDINGS = lines(
    """Write a Python script for {t} and name it {p}.
    Write a Python script for {t} and save it as {p}.
    Please write {t} in Python and save it to {p}.
    Create a file {p} with a Python script for {t}.
    Write {t} in Python to the file {p}.
    Save a Python implementation of {t} as {p}.
    Implement {t} in Python. Name the file {p}.""",
    "Write a Python script for {t} and name it {p}.",
)
NOTING_WORDINGS = lines(
    """Write "{t}" to {p}.
    Write the text "{t}" to the file {p}.
    Save "{t}" as {p}.
    Create the file {p} with the content "{t}".
    Please put "{t}" into {p}.
    Make a file {p} that says "{t}"."""
)
PATH_TOLD = lines(
    """The relative or absolute path of the target file.
    The path of the file.
    The file to write.
    Path of the file to write""",
    "The relative or absolute path of the target file.",
)
CONTENT_TOLD = lines(
    """The string content to write to the file.
    The content.
    The text to write.
    Content of the file""",
    "The string content to write to the file.",
)
WRITER_TOLD = lines(
    """Writes content to the specified file. If the file does not exist, it is created.
    Writes a file.
    Write text to a file.
    Saves content in a file.""",
    "Writes content to the specified file. If the file does not exist, it is created.",
)


def file_writer(source: Source) -> tuple[Tool, str, str, str]:
    name, path, content = "write_file", "path", "content"
    if source.chance(0.35):
        name = source.random.choice(("save_file", "create_file", "writeFile", "file_write"))
        path = source.random.choice(("path", "file_path", "filename", "file"))
        content = source.random.choice(("content", "text", "data", "body"))
    fields = {
        path: {"type": "string", "description": source.pick(PATH_TOLD)},
        content: {"type": "string", "description": source.pick(CONTENT_TOLD)},
    }
    if source.chance(0.2):
        fields = dict(reversed(fields.items()))
    parameters = {"type": "object", "properties": fields, "required": list(fields)}
    function = {
        "name": name,
        "description": source.pick(WRITER_TOLD),
        "parameters": parameters,
    }
    return {"type": "function", "function": function}, name, path, content


def writing(source: Source) -> ToolTalk:
    """The vendor's write_file loop, with other exercises and other names."""
    tool, name, path_name, content_name = file_writer(source)
    order = list(tool["function"]["parameters"]["properties"])
    if source.chance(0.6):
        exercise = source.random.choice(CLASSICS)
        path = f"{exercise.default_name}.py" if source.chance(0.5) else f"{words.snake(source)}.py"
        request = source.pick(WRITING_WORDINGS).format(t=exercise.title, p=path)
        content = script(exercise) + "\n"
    else:
        path, content = words.file_path(source), words.phrase(source)
        request = source.pick(NOTING_WORDINGS).format(t=content, p=path)
    values = {path_name: path, content_name: content}
    result = source.random.choice(
        (
            f"Success: The file '{path}' has been written.",
            f"Success: The file '{path}' has been written.",
            "OK",
            f"Wrote {source.number(10, 900)} bytes to {path}.",
        )
    )
    step = Step(name, {key: values[key] for key in order}, result)
    others = [offer(source).schema for _ in range(source.random.choice((0, 0, 0, 1, 2)))]
    tools = [tool, *others]
    source.random.shuffle(tools)
    task = Task(request, (step,), f"The file `{path}` has been written.")
    return ToolTalk(tuple(tools), (task,))


def talk(source: Source) -> ToolTalk:
    """What evaluation asks, too."""
    kind = source.weighted([(8, mixed), (0.8, clock_and_weather), (1.4, writing)])
    return kind(source)


def generate(source: Source) -> Sample:
    return spoken(source, brief(source) if source.chance(0.6) else talk(source))


def practice(source: Source) -> Sample:
    return spoken(source, brief(source))


def declining(source: Source) -> Sample:
    """As often no function fits as one does."""
    listed = several(source, source.random.randint(1, 4))
    tasks = [
        (without if source.chance(0.5) else single)(source, listed)
        for _ in range(source.random.randint(2, 5))
    ]
    return spoken(source, ToolTalk(tuple(each.schema for each in listed), tuple(tasks)))


def spoken(source: Source, chosen: ToolTalk) -> Sample:
    messages = system_turn(source)
    for task in chosen.tasks:
        messages += told(task)
    return conversation(messages, chosen.tools, tool_form=tool_form(source))
