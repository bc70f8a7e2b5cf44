"""Names, places and things, and the values that people put into requests."""

from __future__ import annotations

import builtins
import keyword
from functools import cache, lru_cache

from training.corpus.source import Pool, Source, lines, spaced
from training.vocabulary import COMMON_TOKENS, common_share, tokenizer

PEOPLE = spaced(
    """Anna Ben Carla David Emma Felix Grace Henry Ivan Julia Karl Laura Maria Nina Oscar Paul
    Quinn Rosa Simon Tina Uma Victor Wendy Xavier Yuki Zoe Alice Bob Charlie Diana Ethan Fiona
    George Hannah Isaac Jack Kate Leo Mia Noah Olivia Peter Rachel Sarah Tom Ursula Vera Walter
    Amir Bella Chen Dmitri Elena Farid Gina Hugo Ingrid Jamal Kenji Lucia Mateo Nadia Omar Priya
    Ravi Sofia Tariq Wei Yara Zara James Robert Linda Susan Mark Lisa Kevin Nancy Daniel Steven
    Andrea Marco Pablo Ahmed Fatima Olga Sven Lars Astrid Chloe Louis Marie Pierre Hans Greta"""
)

CITIES = lines(
    """Beijing
    Shanghai
    Hangzhou
    Shenzhen
    Guangzhou
    Chengdu
    Wuhan
    Nanjing
    Hong Kong
    Taipei
    Singapore
    Tokyo
    Osaka
    Kyoto
    Seoul
    Bangkok
    Hanoi
    Manila
    Jakarta
    Delhi
    Mumbai
    Sydney
    Melbourne
    Auckland
    London
    Paris
    Berlin
    Munich
    Hamburg
    Vienna
    Zurich
    Geneva
    Rome
    Milan
    Naples
    Madrid
    Barcelona
    Lisbon
    Porto
    Dublin
    Edinburgh
    Oslo
    Stockholm
    Copenhagen
    Helsinki
    Warsaw
    Prague
    Budapest
    Athens
    Istanbul
    Moscow
    Kiev
    Cairo
    Lagos
    Nairobi
    Cape Town
    Casablanca
    Dubai
    Doha
    Tehran
    Jerusalem
    New York
    Boston
    Chicago
    Seattle
    Denver
    Austin
    Dallas
    Houston
    Miami
    Atlanta
    Los Angeles
    San Francisco
    San Diego
    Portland
    Toronto
    Vancouver
    Montreal
    Mexico City
    Lima
    Bogota
    Santiago
    Buenos Aires
    Rio de Janeiro
    Brussels
    Amsterdam
    Rotterdam
    Antwerp
    Lyon
    Marseille
    Bordeaux
    Florence
    Venice
    Seville
    Valencia
    Cologne
    Frankfurt
    Dresden
    Krakow
    Manchester
    Liverpool
    Bristol
    Glasgow"""
)

# Ordinary words: file names, identifiers, messages, JSON values.
PLAIN = spaced(
    """apple river stone window garden table paper winter summer music flower market bridge castle
    forest island mirror number orange pencil quiet rabbit silver tiger umbrella village water
    yellow zebra anchor basket candle desert engine feather guitar hammer insect jacket kettle
    lemon mountain needle ocean planet queen rocket saddle temple valley wagon bottle copper dragon
    eagle falcon ginger honey ivory jungle kitchen ladder magnet napkin olive pepper quartz ribbon
    sunset thunder velvet walnut amber breeze cloud dawn ember frost glacier harbor iron jewel
    karma lantern meadow nectar opal pearl quest raven shadow tulip union violet willow alpha beta
    gamma delta omega report data result value total items config notes backup draft final sample
    record users orders images letter story lesson meeting budget plan design review status"""
)

COLOURS = spaced("red green blue black white yellow purple pink brown grey orange gold silver")
LANGUAGES = spaced(
    """English Chinese French German Spanish Italian Japanese Korean Russian Arabic Portuguese
    Dutch Turkish Polish Greek Hindi"""
)
CURRENCIES = spaced("USD EUR GBP JPY CNY CHF AUD CAD INR SGD")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WEATHER = spaced("sunny rainy cloudy windy snowy foggy stormy clear dry humid")

# Beginnings and ends from which names are made that mean nothing and can only be copied.
SYLLABLES = spaced(
    """ba be bo ca ce co da de do fa fe fi ga go ha he ja jo ka ke ko la le lo ma me mo na ne no
    pa pe po ra re ro sa se so ta te to va ve vo za ze zo ark bel cor dan elm fen gor hal ist jun
    kel lor mar nor oth pen qua rin sol tor urb vel wen xan yor zim tron plex net soft mind ware"""
)


CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


FRESH_SHARE = 0.6
POOLS = (PEOPLE, CITIES, PLAIN, COLOURS, LANGUAGES, CURRENCIES, WEATHER, SYLLABLES)


@cache
def fresh_words() -> tuple[str, ...]:
    """The words among the frequent tokens, but for those that any pool holds out."""
    taken = {word.lower() for pool in POOLS for word in pool.held_out}
    taken |= {*keyword.kwlist, *dir(builtins)}
    texts = {tokenizer().decode([token]).strip().lower() for token in range(COMMON_TOKENS)}
    words = {text for text in texts if text.isascii() and text.isalpha() and len(text) > 2}
    return tuple(sorted(words - taken))


def varied(source: Source, pool: Pool, share: float = FRESH_SHARE) -> str:
    """One of a pool, and in training as often any word at all.

    A few dozen names are soon known by heart, and then nothing makes a model copy the one that it is
    given.
    """
    if not source.held_out and source.chance(share):
        return source.random.choice(fresh_words())
    return source.pick(pool)


def name(source: Source, pool: Pool) -> str:
    """A proper name; the words of the pool are written as they are."""
    drawn = varied(source, pool)
    return drawn if drawn in source.side(pool) else drawn.capitalize()


def place(source: Source) -> str:
    return name(source, CITIES)


def person(source: Source) -> str:
    return name(source, PEOPLE)


@lru_cache(maxsize=100_000)
def _spelled_with_common_tokens(text: str) -> bool:
    return all(common_share(shape) == 1 for shape in (text, f" {text}", f"_{text}", f".{text}"))


def made_up(source: Source) -> str:
    """A word that does not exist, spelled with frequent tokens so that few rows suffice."""
    while True:
        made = "".join(source.several(SYLLABLES, source.random.randint(2, 3)))
        if _spelled_with_common_tokens(made):
            return made


def word(source: Source) -> str:
    return varied(source, PLAIN) if source.chance(0.75) else made_up(source)


def phrase(source: Source, low: int = 2, high: int = 5) -> str:
    return " ".join(word(source) for _ in range(source.random.randint(low, high)))


def snake(source: Source) -> str:
    return "_".join(word(source) for _ in range(source.random.randint(1, 2)))


def file_path(source: Source) -> str:
    ending = source.random.choice(("txt", "py", "json", "csv", "md", "log"))
    folders = [word(source) for _ in range(source.random.choice((0, 0, 0, 1, 2)))]
    return "/".join((*folders, f"{snake(source)}.{ending}"))


def date(source: Source) -> str:
    day = source.number(1, 28)
    roll = source.random.random()
    if roll < 0.4:
        return f"{source.number(2019, 2032)}-{source.random.randint(1, 12):02d}-{day:02d}"
    if roll < 0.6:
        return f"{source.random.choice(MONTHS)} {day}"
    if roll < 0.8:
        return source.random.choice(WEEKDAYS)
    return source.random.choice(("today", "tomorrow"))


def clock(source: Source) -> str:
    hour, minute = source.number(0, 23), source.random.choice((0, 15, 20, 30, 45, 50))
    return f"{hour:02d}:{minute:02d}"


def timestamp(source: Source) -> str:
    day = (
        f"{source.number(2019, 2032)}-{source.random.randint(1, 12):02d}-{source.number(1, 28):02d}"
    )
    return f"{day} {clock(source)}:{source.random.randint(0, 59):02d}"


def email(source: Source) -> str:
    host = source.random.choice(("example.com", "example.org", "mail.com", f"{word(source)}.com"))
    return f"{person(source).lower()}@{host}"


def code(source: Source) -> str:
    while True:
        letters = "".join(source.random.choices(CAPITALS, k=source.random.randint(1, 3)))
        if _spelled_with_common_tokens(letters):
            break
    dash = source.random.choice(("-", ""))
    return f"{letters}{dash}{source.number(10, 99999)}"
