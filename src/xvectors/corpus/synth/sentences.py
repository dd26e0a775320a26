"""Draw English sentences from word lists: statements, questions, digits, names."""

from __future__ import annotations

import re

import numpy as np

# including the space; the mean over the sentences below at espeak-ng's rate in words per minute
_LETTERS_PER_WORD = 6.6
_PAUSES_S = 0.25

_WORDS = {
    "NAME": (
        "Alice Amir Anna Arthur Beatrice Carlos Chloe Daniel Diana Edward Elena Farah Frank Grace Hannah "
        "Hugo Ida Ivan Jacob Jane Karim Laura Leo Lucy Marcus Maria Mei Nadia Noah Olivia Oscar Peter "
        "Priya Rosa Samuel Sofia Thomas Ursula Victor Wendy Yusuf Zoe"
    ),
    "CITY": (
        "Aberdeen Amsterdam Athens Barcelona Berlin Bristol Cairo Chicago Copenhagen Dakar Denver Dublin "
        "Geneva Glasgow Hamburg Helsinki Istanbul Jakarta Kyoto Lagos Leeds Lisbon Lima London Madrid "
        "Melbourne Montreal Mumbai Nairobi Oslo Ottawa Paris Prague Quito Rome Seattle Stockholm Toronto "
        "Vienna Warsaw Zurich"
    ),
    "NOUN": (
        "actor apple artist baker basket bicycle boat bottle bridge brother cabin camera candle captain "
        "carpet castle chair child clock coat cottage dancer doctor dog doorway driver engine farmer "
        "feather fence ferry flower forest friend garden guitar hammer harbour hill horse island jacket "
        "kettle kitchen ladder lake lantern lawyer letter library lion market meadow mirror mountain "
        "neighbor nurse ocean orange painter paper parcel pencil photograph piano picture pigeon pilot "
        "planet pocket potato queen rabbit river road sailor scarf school singer sister soldier spoon "
        "station student table teacher temple theatre tiger tower train uncle valley village violin wagon "
        "waiter wallet window wizard writer yacht zebra"
    ),
    "PLURAL": (
        "apples bananas birds boats books bottles boxes buttons cakes candles cards chairs chickens "
        "clouds coins cows cups ducks eggs envelopes flowers games gloves grapes hats keys lemons letters "
        "maps mushrooms nails notes onions oranges papers pears pencils pictures plates ribbons roses "
        "sandwiches shells shoes songs spoons stamps stories strawberries tickets tomatoes toys trees "
        "walnuts windows"
    ),
    "ADJECTIVE": (
        "ancient angry beautiful big bitter blue brave bright broken brown calm careful cheap clever cold "
        "curious dark deep delicate dusty early easy empty famous fancy friendly frozen gentle golden "
        "green grey happy heavy honest hungry huge large lazy lonely long loud modern narrow new noisy "
        "old orange patient plain polite purple quick quiet rare red rough round shallow sharp short "
        "silent silver simple sleepy slow small soft strange strong sweet tall thick thin tiny tired warm "
        "wet white wide wild wise wooden yellow young"
    ),
    "DID": (
        "admired borrowed bought broke brought carried caught chased cleaned closed collected described "
        "discovered dropped drew examined fixed followed forgot found hid ignored kept left lifted liked "
        "lost measured missed moved noticed opened ordered painted passed photographed pulled pushed "
        "reached remembered repaired saw sold stole studied took touched visited watched washed wanted"
    ),
    "DO": (
        "admire borrow bring buy carry choose clean close collect describe draw examine find finish fix "
        "follow forget guard hide ignore keep leave lift measure move notice open order paint photograph "
        "pull push remember repair sell share study touch visit wash watch"
    ),
    "PLACE": (
        "above the old harbour|across the narrow bridge|after the last lesson|along the river bank|around "
        "the corner|at the railway station|before the long journey|behind the yellow house|below the "
        "church tower|beside the frozen lake|between the two gardens|by the open window|down at the "
        "market|far from the city|in the quiet valley|in the middle of the road|inside the wooden "
        "box|near the northern coast|next to the library|on the kitchen table|on the other side|outside "
        "the theatre|over the green hills|through the dark forest|under the large oak|up on the third "
        "floor|with a great deal of care|without any reason at all"
    ),
    "TIME": (
        "a week ago|at half past nine|before breakfast|during the winter|early this morning|every single "
        "day|for the first time|in the afternoon|just after midnight|last summer|late on Tuesday|on a "
        "Friday evening|on Sunday|once again|the other day|three years ago|twice a month|two days "
        "later|when the rain stopped|while the sun was out|yesterday"
    ),
    "ADVERB": (
        "almost always|carefully|certainly|eagerly|finally|gladly|happily|hardly "
        "ever|never|nervously|often|only "
        "just|politely|probably|quickly|quietly|rarely|really|secretly|slowly|sometimes|suddenly|usually"
    ),
    "SAID": "asked answered believed explained hoped knew promised repeated said thought whispered wrote",
    "JOB": (
        "an architect|a baker|a carpenter|a chemist|a dentist|an engineer|a farmer|a fisherman|a "
        "gardener|a journalist|a lawyer|a librarian|a mechanic|a musician|a nurse|a pilot|a plumber|a "
        "teacher|a translator|a waiter"
    ),
    "DIGIT": "zero one two three four five six seven eight nine",
    "NUMBER": (
        "two three four five six seven eight nine ten eleven twelve fourteen fifteen seventeen eighteen "
        "twenty thirty forty fifty sixty"
    ),
    "ORDINAL": (
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fifteenth eighteenth twentieth thirtieth"
    ),
    "MONTH": "January February March April May June July August September October November December",
}
_LISTS = {slot: words.split("|" if "|" in words else " ") for slot, words in _WORDS.items()}

_TEMPLATES = tuple(
    template.split()
    for template in (
        "the ADJECTIVE NOUN DID the NOUN PLACE .",
        "the NOUN and the ADJECTIVE NOUN DID NUMBER PLURAL TIME .",
        "NAME ADVERB DID the ADJECTIVE PLURAL PLACE .",
        "TIME , NAME DID a NOUN for the ADJECTIVE NOUN .",
        "did you DO the ADJECTIVE NOUN PLACE ?",
        "would NAME and NAME ADVERB DO NUMBER ADJECTIVE PLURAL ?",
        "why did the NOUN DO my PLURAL TIME ?",
        "please DO the ADJECTIVE PLURAL and DO the NOUN .",
        "my ADJECTIVE NOUN ADVERB DID those PLURAL PLACE .",
        "we could DO a NOUN or DO the ADJECTIVE PLURAL TIME .",
        "NAME SAID that the NOUN ADVERB DID the ADJECTIVE NOUN .",
        "there were NUMBER ADJECTIVE PLURAL PLACE TIME .",
        "nobody in CITY DID such ADJECTIVE PLURAL before .",
        "if you DO the NOUN , the ADJECTIVE NOUN will DO it PLACE .",
        "her NOUN was ADJECTIVE , but his PLURAL were ADJECTIVE and ADJECTIVE .",
        "my name is NAME , and I live in CITY .",
        "my friend NAME from CITY is JOB .",
        "I was born in CITY on the ORDINAL of MONTH .",
        "NAME and NAME traveled from CITY to CITY in MONTH .",
        "the code is DIGIT DIGIT DIGIT , DIGIT DIGIT DIGIT .",
        "call me on DIGIT DIGIT DIGIT DIGIT , DIGIT DIGIT DIGIT DIGIT .",
        "DIGIT , DIGIT , DIGIT , DIGIT , DIGIT , DIGIT .",
        "room NUMBER on floor DIGIT , NUMBER minutes from CITY .",
        "I paid NUMBER pounds and NUMBER pence for the ADJECTIVE NOUN .",
        "the NOUN DID the NOUN .",
        "NAME is JOB in CITY .",
        "NAME ADVERB DID it PLACE .",
        "the NOUN DID the ADJECTIVE PLURAL PLACE , and TIME NAME DID the NOUN in CITY .",
    )
)


def draw_sentence(rng: np.random.Generator, *, words_per_minute: float, seconds: float) -> str:
    """Draw 40 sentences, and return the one whose duration at the given speed is closest to `seconds`."""
    candidates = [_fill(rng) for _ in range(40)]
    return min(candidates, key=lambda text: abs(expected_seconds(text, words_per_minute) - seconds))


def expected_seconds(text: str, words_per_minute: float) -> float:
    """Estimate the duration of `text`, within about 20 %."""
    return _PAUSES_S * text.count(",") + len(text) / _LETTERS_PER_WORD * 60 / words_per_minute


def _fill(rng: np.random.Generator) -> str:
    template = _TEMPLATES[rng.integers(len(_TEMPLATES))]
    words = [_LISTS[word][rng.integers(len(_LISTS[word]))] if word in _LISTS else word for word in template]
    text = " ".join(words).replace(" ,", ",").replace(" .", ".").replace(" ?", "?")
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    return text[0].upper() + text[1:]
