"""Functions that a caller may offer: made from topics and slots, in many styles of naming.

A topic is something to ask for or to do; a slot is a value that the request mentions and the call
must carry. A third of all topics are words that do not exist, so that the only way to pick the
right function is to compare the request with the list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from training.chat import Tool
from training.corpus import words
from training.corpus.source import Pool, Source, lines, spaced


@dataclass(frozen=True)
class Slot:
    kind: str  # JSON type
    names: Pool
    told: Pool  # descriptions for the schema
    phrases: Pool  # how a request mentions the value
    value: Callable[[Source], Any]


SLOTS: dict[str, Slot] = {
    "place": Slot(
        "string",
        spaced("city location place town destination area city_name where"),
        lines(
            """The city
            The name of the city
            A city or county, such as Beijing, Hangzhou, or Yuhang District.
            The place to look at
            City name
            Which city
            The location"""
        ),
        lines("in {}\nfor {}\nin the city of {}\nnear {}\nat {}"),
        words.place,
    ),
    "person": Slot(
        "string",
        spaced("name person user customer contact recipient who full_name"),
        lines("The name of the person\nThe person\nWho it is for\nName of the user\nThe recipient"),
        lines("for {}\nwith {}\nof {}\nfor my friend {}\nfor the customer {}"),
        words.person,
    ),
    "date": Slot(
        "string",
        spaced("date day when on_date start_date due_date"),
        lines("The date\nThe day\nThe date, such as 2025-03-01\nWhich day\nDay of the event"),
        lines("on {}\nfor {}\nby {}\nfrom {}"),
        words.date,
    ),
    "time": Slot(
        "string",
        spaced("time hour at_time start_time clock"),
        lines("The time\nThe time of day\nThe time, such as 14:30\nWhat time"),
        lines("at {}\naround {}\nat about {}\nfrom {}"),
        words.clock,
    ),
    "count": Slot(
        "integer",
        spaced("count number quantity amount n size how_many limit"),
        lines("How many\nThe number\nThe quantity\nNumber of items\nThe amount"),
        lines("{} times\nwith the number {}\nwith {} items\nfor {} people\nwith a count of {}"),
        lambda source: source.number(1, 250),
    ),
    "email": Slot(
        "string",
        spaced("email address mail to recipient_email"),
        lines("The email address\nEmail of the recipient\nWhere to send it"),
        lines("to {}\nfor {}\nto the address {}\nwith the email {}"),
        words.email,
    ),
    "text": Slot(
        "string",
        spaced("text message body content query title subject note"),
        lines("The text\nThe message\nThe text to use\nWhat it says\nThe content"),
        lines('saying "{}"\nwith the text "{}"\nthat says "{}"\ncalled "{}"\nabout "{}"'),
        words.phrase,
    ),
    "path": Slot(
        "string",
        spaced("path file file_path filename target"),
        lines("The path of the file\nThe file\nThe relative or absolute path\nFile name"),
        lines("in {}\nfrom the file {}\nfor the file {}\nof {}"),
        words.file_path,
    ),
    "code": Slot(
        "string",
        spaced("id code order_id number_id reference key tracking_code"),
        lines("The id\nThe code\nThe order number\nThe reference\nIts id"),
        lines("with the id {}\nfor {}\nwith the number {}\nwith the code {}\nfor order {}"),
        words.code,
    ),
    "language": Slot(
        "string",
        spaced("language lang target_language into"),
        lines("The language\nThe target language\nWhich language"),
        lines("in {}\ninto {}\nto {}"),
        lambda source: words.varied(source, words.LANGUAGES, 0.4),
    ),
    "currency": Slot(
        "string",
        spaced("currency unit currency_code target_currency"),
        lines("The currency\nThe currency code\nWhich currency, such as EUR"),
        lines("in {}\nto {}\ninto {}"),
        lambda source: source.pick(words.CURRENCIES),
    ),
    "colour": Slot(
        "string",
        spaced("color colour shade tone"),
        lines("The color\nWhich color\nThe colour to use"),
        lines("in {}\nwith the color {}\nto {}"),
        lambda source: words.varied(source, words.COLOURS, 0.4),
    ),
    "level": Slot(
        "number",
        spaced("level value degrees temperature price percent"),
        lines("The value\nThe level\nA number\nThe wanted value"),
        lines("to {}\nat {}\nwith the value {}\nof {}"),
        lambda source: source.random.choice(
            (source.number(0, 120), source.number(0, 90) + source.random.choice((0.5, 0.25)))
        ),
    ),
}

# noun | verbs | slots
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
for _line in """
weather|get check|place
forecast|get show|place date
temperature|get read|place
air quality|get check|place
time|get tell|place
traffic|check get|place
news|get find|place
population|get find|place
hotel|find book|place date
restaurant|find book|place time
table|book reserve|place person
flight|find book|place date
train|find search|place time
museum|find search|place
ticket|buy book|person date
taxi|order call|place time
room|book reserve|person date
meeting|plan schedule create|person time
appointment|make cancel|person date
reminder|set create add|text time
alarm|set create|time
timer|start set|count
event|create add|text date
note|write create save|text
task|add create|text date
email|send write|email text
message|send write|person text
invitation|send create|email date
invoice|send create|code level
order|find check track|code
parcel|track find|code
package|track send|code
payment|make check|person level
refund|request make|code
price|get check|code currency
stock|check get|code
exchange rate|get check|currency
translation|make get|text language
summary|make get|path
song|play find|text
playlist|create play|text
movie|find search|text
book|find search|text
recipe|find get|text
picture|draw create|text colour
chart|draw make|path colour
lamp|switch set|colour
light|set dim|level
heating|set change|level
door|open lock|code
window|open close|code
camera|start check|place
robot|start move|level
car|rent find|place date
bike|rent find|place
route|plan find|place time
distance|get measure|place
file|read open delete|path
folder|list create|path
document|open print|path
backup|start make|path
report|create send|date email
contact|find add|person email
user|create find delete|person email
account|open close check|code
customer|find call|person
doctor|find call|place
course|find book|text date
job|find search|place text
score|get show|person
game|start find|text
plant|water check|code
coffee|make order|count
pizza|order make|count place
cake|order bake|count colour
shirt|buy order|colour count
""".strip().splitlines():
    _noun, _verbs, _slots = _line.split("|")
    TOPICS[_noun] = (tuple(_verbs.split()), tuple(_slots.split()))
KNOWN_NOUNS = Pool(list(TOPICS), ("weather", "time", "file"))
MADE_UP_VERBS = ("get", "find", "check", "set", "start", "send", "make", "show", "open", "order")
OPTIONS = (
    ("unit", ["celsius", "fahrenheit"]),
    ("format", ["short", "long"]),
    ("mode", ["fast", "slow"]),
    ("priority", ["low", "high"]),
    ("units", ["metric", "imperial"]),
)
PHRASE_TRIES = 6
# In training, so that it is not the preposition alone that tells one value from another.
ODD_SHARE = 0.25
ODD_WORDS = "at to from for in with of on by as using near into about under"
ODD_PHRASES = (*(f"{word} {{}}" for word in ODD_WORDS.split()), "{}", "via {}", "called {}")
# And so that it is the words of a wish that choose its function, not a sentence known by heart.
ODD_WORDING_SHARE = 0.3
ASKING_VERBS = frozenset(("get", "check", "show", "find", "tell", "read", "search", "track"))


@dataclass(frozen=True)
class Parameter:
    name: str
    slot: Slot


@dataclass(frozen=True)
class Offered:
    """One function of the list, with what is needed to ask for it and to answer for it."""

    name: str
    verb: str
    noun: str
    description: str
    parameters: tuple[Parameter, ...]
    schema: Tool


DESCRIPTIONS = lines(
    """{Verb} the {noun}.
    {Verb} the {noun}
    {Verb} a {noun}.
    {Verb}s the {noun}.
    Useful to {verb} the {noun}.
    Useful for when you want to {verb} the {noun}.
    Use this to {verb} a {noun}.
    A function to {verb} the {noun}.
    Can {verb} the {noun} for the user.
    To {verb} the {noun}."""
)


def function_name(source: Source, verb: str, noun: str) -> str:
    joined = noun.replace(" ", "_")
    style = source.random.random()
    if style < 0.5:
        return f"{verb}_{joined}"
    if style < 0.62:
        return f"{verb}{''.join(part.capitalize() for part in noun.split())}"
    if style < 0.72:
        return f"{joined}_{verb}"
    if style < 0.8:
        return f"{verb}_{source.random.choice(('current', 'my', 'the', 'new'))}_{joined}"
    if style < 0.87:
        return joined
    if style < 0.94:
        return f"{words.made_up(source)}_{joined}"
    return words.made_up(source)  # only the description tells


def offer(source: Source, *, brief: bool = False) -> Offered:
    """A function; a brief one takes one argument at most."""
    noun = source.pick(KNOWN_NOUNS) if source.chance(0.6) else invented_noun(source)
    if noun in TOPICS:
        verbs, slots = TOPICS[noun]
        verb = source.random.choice(verbs)
        if source.chance(0.15):
            slots = tuple(source.random.sample(list(SLOTS), source.random.choice((1, 2))))
    else:
        verb = source.random.choice(MADE_UP_VERBS)
        slots = tuple(source.random.sample(list(SLOTS), source.random.choice((0, 1, 1, 2, 2, 3))))
    if source.chance(0.12):
        slots = ()
    if brief:
        slots = slots[: source.random.choice((0, 1))]
    used: set[str] = set()
    parameters: list[Parameter] = []
    for kind in slots:
        slot = SLOTS[kind]
        name = words.varied(source, slot.names, 0.35)
        if source.chance(0.06):
            name = words.made_up(source)
        elif not source.held_out and source.chance(0.1):
            name = f"{words.word(source)}_{name}"
        if name not in used:
            used.add(name)
            parameters.append(Parameter(name, slot))
    if not source.held_out and source.chance(ODD_WORDING_SHARE):
        description = _oddly(source, verb, noun, "")
    else:
        wording = source.pick(DESCRIPTIONS)
        description = wording.format(verb=verb, Verb=verb.capitalize(), noun=noun)
    name = function_name(source, verb, noun)
    schema = _schema(source, name, description, tuple(parameters))
    return Offered(name, verb, noun, description, tuple(parameters), schema)


def _oddly(source: Source, verb: str, noun: str, rest: str) -> str:
    """A sentence of any words around those that count."""

    def some(most: int) -> list[str]:
        return [
            source.random.choice(words.fresh_words()) for _ in range(source.random.randint(0, most))
        ]

    before = source.random.choice(("the", "a", "my", "this", "any"))
    said = " ".join([*some(4), verb, *some(1), before, f"{noun}{rest}", *some(2)])
    return said[0].upper() + said[1:] + source.random.choice((".", "?", "", "!"))


def invented_noun(source: Source) -> str:
    return words.made_up(source) if source.chance(0.5) else words.varied(source, words.PLAIN)


def _schema(source: Source, name: str, description: str, parameters: tuple[Parameter, ...]) -> Tool:
    properties: dict[str, dict[str, Any]] = {}
    told = source.chance(0.45)
    for parameter in parameters:
        properties[parameter.name] = {"type": parameter.slot.kind}
        if told:
            properties[parameter.name]["description"] = source.pick(parameter.slot.told)
    required = [parameter.name for parameter in parameters]
    if parameters and source.chance(0.2):
        # An option that no request mentions, so no call may carry it.
        option, values = source.random.choice(OPTIONS)
        if option not in properties:
            properties[option] = {"type": "string", "enum": values}
    function: dict[str, Any] = {"name": name, "description": description}
    roll = source.random.random()
    if not parameters and roll < 0.5:
        function["parameters"] = {}
    else:
        function["parameters"] = {"type": "object", "properties": properties}
        if roll > 0.9:
            function["required"] = required  # misplaced, as on one of the vendor's pages
        elif roll > 0.25 and required:
            function["parameters"]["required"] = required
    return {"type": "function", "function": function}


ASKING = lines(
    """What is the {noun}{rest}?
    {Verb} the {noun}{rest}.
    {Verb} the {noun}{rest}, please.
    Please {verb} the {noun}{rest}.
    How is the {noun}{rest}?
    Can you {verb} the {noun}{rest}?
    Could you {verb} the {noun}{rest}?
    Tell me the {noun}{rest}.
    I need the {noun}{rest}.
    I want to know the {noun}{rest}.
    Do you know the {noun}{rest}?
    What's the {noun}{rest}?"""
)
DOING = lines(
    """{Verb} a {noun}{rest}.
    {Verb} the {noun}{rest}.
    Please {verb} a {noun}{rest}.
    Please {verb} the {noun}{rest}.
    {Verb} a {noun}{rest}, please.
    Can you {verb} a {noun}{rest}?
    Could you {verb} the {noun}{rest}?
    I want to {verb} a {noun}{rest}.
    I would like to {verb} a {noun}{rest}.
    Help me {verb} a {noun}{rest}.
    I need to {verb} the {noun}{rest}."""
)


def ask(source: Source, offered: Offered) -> tuple[str, dict[str, Any]]:
    """A request in words, and the arguments that it implies."""
    arguments = {each.name: each.slot.value(source) for each in offered.parameters}
    mentioned = list(offered.parameters)
    source.random.shuffle(mentioned)
    phrases = _phrases(source, mentioned)
    rest = "".join(
        " " + phrase.format(arguments[each.name])
        for phrase, each in zip(phrases, mentioned, strict=True)
    )
    if not source.held_out and source.chance(ODD_WORDING_SHARE):
        return _oddly(source, offered.verb, offered.noun, rest), arguments
    wording = source.pick(ASKING if offered.verb in ASKING_VERBS else DOING)
    text = wording.format(
        verb=offered.verb, Verb=offered.verb.capitalize(), noun=offered.noun, rest=rest
    )
    return text, arguments


def _phrases(source: Source, mentioned: Sequence[Parameter]) -> list[str]:
    """One for each value; alike only where there is no choice, or nobody could tell them apart."""
    for _ in range(PHRASE_TRIES):
        phrases = [
            source.random.choice(ODD_PHRASES)
            if not source.held_out and source.chance(ODD_SHARE)
            else source.pick(each.slot.phrases)
            for each in mentioned
        ]
        if len({*phrases}) == len(phrases):
            break
    return phrases


def result_of(source: Source, offered: Offered, arguments: dict[str, Any]) -> tuple[str, str]:
    """What the function returns, and what the model says about it."""
    roll = source.random.random()
    if roll < 0.08:
        problem = f"Error: {words.phrase(source, 1, 3)}"
        return problem, f"The function failed. {problem}"
    if roll < 0.4:
        fields: dict[str, Any] = {
            key: value for key, value in arguments.items() if source.chance(0.5)
        }
        fields[offered.noun.replace(" ", "_")] = _finding(source)
        if source.chance(0.4):
            fields[words.word(source)] = _finding(source)
        said = ", ".join(f"{key}: {value}" for key, value in fields.items())
        return json.dumps(fields, ensure_ascii=False), f"{said}."
    if offered.verb in ASKING_VERBS:
        where = f" for {next(iter(arguments.values()))}" if arguments else ""
        sentence = source.random.choice(
            ("The {n}{w} is {f}.", "It is {f}{w}.", "{N}{w}: {f}.", "Current {n}: {f}.", "{f}")
        ).format(n=offered.noun, N=offered.noun.capitalize(), w=where, f=_finding(source))
    else:
        sentence = source.random.choice(
            (
                "Success: the {n} is ready.",
                "Done. The number is {c}.",
                "The {n} has been made.",
                "OK, {n} {c}.",
                "Success: {f}.",
            )
        ).format(n=offered.noun, c=words.code(source), f=_finding(source))
    return sentence, sentence


def _finding(source: Source) -> str | int:
    roll = source.random.random()
    if roll < 0.3:
        return source.number(0, 999)
    if roll < 0.5:
        return source.pick(words.WEATHER)
    if roll < 0.6:
        return words.timestamp(source)
    return words.phrase(source, 1, 3)
