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
from training.corpus.source import Pool, Source, lines


@dataclass(frozen=True)
class Slot:
    kind: str  # JSON type
    names: Pool
    told: Pool  # descriptions for the schema
    phrases: Pool  # how a request mentions the value
    value: Callable[[Source], Any]


def _named(bases: str, forms: str) -> Pool:
    """Every base in every form: a held-out name is a new one of known words."""
    return Pool([form.format(base) for base in bases.split() for form in forms.split()])


SLOTS: dict[str, Slot] = {
    "place": Slot(
        "string",
        _named("city location place town destination area where", "{} {}_name target_{} in_{}"),
        lines(
            """The city
            The name of the city
            A city or county, such as Beijing, Hangzhou, or Yuhang District.
            The place to look at
            City name
            Which city
            The location
            Where to look
            The town or city
            Name of the place
            The area that is meant
            A town, such as Lyon"""
        ),
        lines(
            """in {}
            for {}
            in the city of {}
            near {}
            at {}
            around {}
            close to {}
            in the area of {}
            over in {}
            in the town of {}
            here in {}
            not far from {}"""
        ),
        words.place,
    ),
    "person": Slot(
        "string",
        _named("person user customer contact recipient guest client", "{} {}_name for_{} full_{}"),
        lines(
            """The name of the person
            The person
            Who it is for
            Name of the user
            The recipient
            The guest
            Full name of the customer
            The person it concerns
            Name of the client
            Who is meant"""
        ),
        lines(
            """for {}
            with {}
            of {}
            for my friend {}
            for the customer {}
            together with {}
            for my colleague {}
            for Mr. {}
            for Mrs. {}
            under the name {}
            on behalf of {}
            for a guest called {}"""
        ),
        words.person,
    ),
    "date": Slot(
        "string",
        _named("date day start_date due_date", "{} on_{} the_{} {}_wanted"),
        lines(
            """The date
            The day
            The date, such as 2025-03-01
            Which day
            Day of the event
            On which day
            The day that is meant
            Date of the visit"""
        ),
        lines(
            """on {}
            for {}
            by {}
            from {}
            starting {}
            until {}
            before {}
            after {}
            on the date {}
            for the day {}"""
        ),
        words.date,
    ),
    "time": Slot(
        "string",
        _named("time hour clock start_time", "{} at_{} the_{} {}_of_day"),
        lines(
            """The time
            The time of day
            The time, such as 14:30
            What time
            At what time
            Hour and minute
            Time of the start
            When it begins"""
        ),
        lines(
            """at {}
            around {}
            at about {}
            from {}
            by {}
            after {}
            before {}
            starting at {}
            at exactly {}
            until {}"""
        ),
        words.clock,
    ),
    "count": Slot(
        "integer",
        _named("count number quantity amount limit", "{} max_{} total_{} {}_wanted"),
        lines(
            """How many
            The number
            The quantity
            Number of items
            The amount
            How many of them
            How often
            The wanted number"""
        ),
        lines(
            """{} times
            with the number {}
            with {} items
            for {} people
            with a count of {}
            for {} of them
            with a quantity of {}
            with a limit of {}
            {} in total
            with an amount of {}
            up to {}"""
        ),
        lambda source: source.number(1, 250),
    ),
    "email": Slot(
        "string",
        _named("email mail address email_address", "{} to_{} {}_to send_to_{}"),
        lines(
            """The email address
            Email of the recipient
            Where to send it
            Address of the recipient
            The address, such as ben@example.com
            To which email address"""
        ),
        lines(
            """to {}
            for {}
            to the address {}
            with the email {}
            via {}
            by mail to {}
            to the email address {}
            using {}
            addressed to {}"""
        ),
        words.email,
    ),
    "text": Slot(
        "string",
        _named("text message content query title subject note", "{} {}_text the_{} new_{}"),
        lines(
            """The text
            The message
            The text to use
            What it says
            The content
            The words to use
            Its title
            What to look for
            Text of the note"""
        ),
        lines(
            """saying "{}"
            with the text "{}"
            that says "{}"
            called "{}"
            about "{}"
            titled "{}"
            with the title "{}"
            with the message "{}"
            which reads "{}"
            named "{}"
            for "{}"
            on "{}\""""
        ),
        words.phrase,
    ),
    "path": Slot(
        "string",
        _named("path file filename file_path", "{} target_{} {}_name in_{}"),
        lines(
            """The path of the file
            The file
            The relative or absolute path
            File name
            Which file
            Name of the file
            Path to the file
            Where the file is"""
        ),
        lines(
            """in {}
            from the file {}
            for the file {}
            of {}
            at {}
            from {}
            in the file {}
            with the path {}
            using the file {}
            stored in {}"""
        ),
        words.file_path,
    ),
    "code": Slot(
        "string",
        _named("id code order reference number", "{}_id {}_code tracking_{} the_{}"),
        lines(
            """The id
            The code
            The order number
            The reference
            Its id
            The number, such as AB1234
            Which id
            The tracking code"""
        ),
        lines(
            """with the id {}
            for {}
            with the number {}
            with the code {}
            for order {}
            with the reference {}
            whose id is {}
            numbered {}
            under the code {}
            of number {}"""
        ),
        words.code,
    ),
    "language": Slot(
        "string",
        _named("language lang", "{} target_{} {}_name into_{} in_{} the_{}"),
        lines(
            """The language
            The target language
            Which language
            Name of the language
            In which language
            The language to use"""
        ),
        lines(
            """in {}
            into {}
            to {}
            in the language {}
            using {}
            written in {}
            from {}"""
        ),
        lambda source: words.name(source, words.LANGUAGES),
    ),
    "currency": Slot(
        "string",
        _named("currency unit currency_code", "{} target_{} in_{} to_{}"),
        lines(
            """The currency
            The currency code
            Which currency, such as EUR
            In which currency
            Code of the currency
            The target currency"""
        ),
        lines(
            """in {}
            to {}
            into {}
            in the currency {}
            paid in {}
            from {}
            counted in {}"""
        ),
        words.currency,
    ),
    "colour": Slot(
        "string",
        _named("color colour shade tone", "{} {}_name target_{} in_{}"),
        lines(
            """The color
            Which color
            The colour to use
            The wanted color
            Name of the color
            In which colour"""
        ),
        lines(
            """in {}
            with the color {}
            to {}
            in the color {}
            painted {}
            in a shade of {}
            with a {} tone"""
        ),
        lambda source: words.varied(source, words.COLOURS, 0.4),
    ),
    "level": Slot(
        "number",
        _named("level value degrees temperature price percent", "{} target_{} {}_value new_{}"),
        lines(
            """The value
            The level
            A number
            The wanted value
            The new level
            To which value
            How high
            The level, such as 20.5"""
        ),
        lines(
            """to {}
            at {}
            with the value {}
            of {}
            up to {}
            down to {}
            by {}
            with a level of {}
            at a level of {}"""
        ),
        lambda source: source.random.choice(
            (source.number(0, 120), source.number(0, 90) + source.random.choice((0.5, 0.25)))
        ),
    ),
}
# Phrases that say the name of the parameter.
NAMING = lines(
    """with the {name} {}
    with {name} {}
    where the {name} is {}
    with {} as the {name}
    {name} {}
    {name}: {}
    and set the {name} to {}
    and the {name} should be {}
    using the {name} {}"""
)

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
NAMING_SHARE = 0.15
# In training, so that it is not the preposition alone that tells one value from another.
ODD_SHARE = 0.1
ODD_WORDS = "at to from for in with of on by as using near into about under"
ODD_PHRASES = (*(f"{word} {{}}" for word in ODD_WORDS.split()), "{}", "via {}", "called {}")
# And so that it is the words of a wish that choose its function, not a sentence known by heart.
ODD_WORDING_SHARE = 0.3
ASKING_VERBS = frozenset(("get", "check", "show", "find", "tell", "read", "search", "track"))


@dataclass(frozen=True)
class Parameter:
    name: str
    slot: Slot
    odd: bool = False  # the name says nothing about the value

    @property
    def spoken(self) -> str:
        return self.name.replace("_", " ")


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
        name, odd = parameter_name(source, slot)
        if name not in used:
            used.add(name)
            parameters.append(Parameter(name, slot, odd))
    if not source.held_out and source.chance(ODD_WORDING_SHARE):
        description = _oddly(source, verb, noun, "")
    else:
        wording = source.pick(DESCRIPTIONS)
        description = wording.format(verb=verb, Verb=verb.capitalize(), noun=noun)
    name = function_name(source, verb, noun)
    schema = _schema(source, name, description, tuple(parameters))
    return Offered(name, verb, noun, description, tuple(parameters), schema)


def parameter_name(source: Source, slot: Slot) -> tuple[str, bool]:
    """And whether it says nothing about the value."""
    if source.chance(0.06):
        return words.made_up(source), True
    if not source.held_out and source.chance(0.15):
        return words.word(source), True
    if not source.held_out and source.chance(0.1):
        return f"{words.word(source)}_{source.pick(slot.names)}", False
    return source.pick(slot.names), False


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
        phrases = [_phrase(source, each) for each in mentioned]
        if len({*phrases}) == len(phrases):
            break
    return phrases


def _phrase(source: Source, parameter: Parameter) -> str:
    # What nothing else tells, the request has to say.
    naming = 0.75 if parameter.odd and not source.held_out else NAMING_SHARE
    if source.chance(naming):
        return source.pick(NAMING).replace("{name}", parameter.spoken)
    if not source.held_out and source.chance(ODD_SHARE):
        return source.random.choice(ODD_PHRASES)
    return source.pick(parameter.slot.phrases)


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
