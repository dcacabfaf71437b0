"""The stories of generated problems: each draws its figures, computes exactly, and shows its work.

A story has one to four steps, each a line with one true equation. Money and measures are decimals with few places,
shares come out even, and where a result may fall below zero the question says how to count that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

_NAMES = (
    "Aisha", "Ben", "Carla", "Daniel", "Elif", "Femi", "Grace", "Hiro", "Ines", "Jonas", "Kavya", "Liam", "Maria",
    "Nadia", "Omar", "Priya", "Quentin", "Rosa", "Samir", "Tara", "Uma", "Viktor", "Wanjiru", "Ximena", "Yusuf", "Zoe",
    "Amara", "Bruno", "Chen", "Dalia", "Erik", "Fatima", "Goran", "Hannah", "Ivan", "Julia", "Kofi", "Lena", "Mateo",
    "Noor", "Olga", "Pedro", "Ruth", "Sven", "Thandi", "Ursula", "Wei", "Yara",
)  # fmt: skip
_THINGS = (
    "marbles", "stickers", "pencils", "shells", "coins", "beads", "cards", "buttons", "stamps", "books", "tiles",
    "badges", "candles", "ribbons", "notebooks", "postcards", "magnets", "bracelets", "puzzles", "balloons", "envelopes",
    "whistles", "crayons", "keyrings", "bookmarks", "sponges",
)  # fmt: skip
_FRUIT = ("apples", "pears", "oranges", "lemons", "plums", "peaches", "mangoes", "figs", "kiwis", "melons")
_FLOWERS = ("tulips", "daffodils", "crocuses", "lilies", "irises", "asters", "dahlias", "marigolds")
_CONTAINERS = ("boxes", "bags", "crates", "baskets", "trays", "packs", "jars", "cartons")
_TOWNS = ("Oslo", "Yakutsk", "Quebec", "Harbin", "Tromso", "Astana", "Reykjavik", "Ushuaia", "Helsinki", "Winnipeg")


@dataclass(frozen=True, slots=True)
class Story:
    """A question, the steps to its answer, and the answer in plain digits."""

    question: str
    steps: tuple[str, ...]
    answer: str


class Draw:
    """What stories draw from a stream of random numbers."""

    def __init__(self, stream: random.Random) -> None:
        self._stream = stream

    def whole(self, least: int, most: int, step: int = 1) -> Decimal:
        """A whole number from ``least`` to ``most``, in steps."""
        return Decimal(self._stream.randrange(least, most + 1, step))

    def parts(self, least: int, most: int, places: int = 2, step: int = 5) -> Decimal:
        """A decimal with so many places: a whole number of tenths, hundredths ... in the bounds, in steps."""
        return self.whole(least, most, step).scaleb(-places)

    def name(self) -> str:
        """A person."""
        return self._stream.choice(_NAMES)

    def names(self) -> list[str]:
        """Two persons."""
        return self._stream.sample(_NAMES, 2)

    def of(self, words: tuple[str, ...]) -> str:
        """One of the words."""
        return self._stream.choice(words)


def show(value: Decimal) -> str:
    """Plain digits without zeros at the end.

    >>> show(Decimal("12.50")), show(Decimal(-300)), show(Decimal("0.0"))
    ('12.5', '-300', '0')
    """
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def money(value: Decimal) -> str:
    """Dollars, with cents where there are any.

    >>> money(Decimal("3.5")), money(Decimal(20))
    ('$3.50', '$20')
    """
    return f"${show(value)}" if value == value.to_integral_value() else f"${value:.2f}"


def _term(value: Decimal) -> str:
    return show(value) if value >= 0 else f"({show(value)})"


def _told(question: str, answer: Decimal, *steps: str) -> Story:
    return Story(question, steps, show(answer))


def gift(draw: Draw) -> Story:
    """One step: what is left."""
    giver, friend = draw.names()
    thing, had = draw.of(_THINGS), draw.whole(15, 960)
    gave = draw.whole(3, int(had) - 2)
    left = had - gave
    return _told(
        f"{giver} has {had} {thing} and gives {gave} of them to {friend}. How many {thing} does {giver} have left?",
        left,
        f"{giver} has {had} - {gave} = {left} {thing} left.",
    )


def night(draw: Draw) -> Story:
    """One step: a temperature that may fall below zero."""
    town, day, fall = draw.of(_TOWNS), draw.parts(-120, 240, 1, 1), draw.parts(15, 295, 1, 1)
    cold = day - fall
    return _told(
        f"At noon the temperature in {town} is {show(day)} degrees. By midnight it falls by {show(fall)} degrees. What "
        "is the temperature at midnight, as a negative number if it is below zero?",
        cold,
        f"At midnight it is {show(day)} - {show(fall)} = {show(cold)} degrees.",
    )


def stall(draw: Draw) -> Story:
    """One step: a price for several."""
    name, fruit = draw.name(), draw.of(_FRUIT)
    count, each = draw.whole(3, 48), draw.parts(15, 495)
    cost = count * each
    return _told(
        f"At the market {fruit} cost {money(each)} each. {name} buys {count} of them. How many dollars does {name} pay?",
        cost,
        f"{name} pays {count} * {show(each)} = {show(cost)} dollars.",
    )


def share(draw: Draw) -> Story:
    """One step: an even share."""
    name, thing, people, each = draw.name(), draw.of(_THINGS), draw.whole(3, 36), draw.whole(4, 75)
    total = people * each
    return _told(
        f"{name} shares {total} {thing} equally among {people} children. How many {thing} does each child get?",
        each,
        f"Each child gets {total} / {people} = {each} {thing}.",
    )


def packing(draw: Draw) -> Story:
    """Two steps: full containers and some loose."""
    name, thing, container = draw.name(), draw.of(_THINGS), draw.of(_CONTAINERS)
    count, each, loose = draw.whole(3, 40), draw.whole(6, 60), draw.whole(2, 99)
    packed = count * each
    total = packed + loose
    return _told(
        f"{name} fills {count} {container} with {each} {thing} each and has {loose} {thing} left over. How many {thing} "
        f"did {name} have at the start?",
        total,
        f"The {container} hold {count} * {each} = {packed} {thing}.",
        f"Together with the rest that makes {packed} + {loose} = {total} {thing}.",
    )


def change(draw: Draw) -> Story:
    """Two steps: change from a note."""
    name, thing, count, each = draw.name(), draw.of(_THINGS), draw.whole(2, 18), draw.parts(25, 545)
    cost = count * each
    note = next(Decimal(size) for size in (5, 10, 20, 50, 100) if size > cost)
    back = note - cost
    return _told(
        f"{name} buys {count} {thing} at {money(each)} each and pays with {money(note)}. How many dollars does {name} "
        "get back?",
        back,
        f"The {thing} cost {count} * {show(each)} = {show(cost)} dollars.",
        f"{name} gets {note} - {show(cost)} = {show(back)} dollars back.",
    )


def account(draw: Draw) -> Story:
    """Two steps: an account that may be overdrawn."""
    name = draw.name()
    start, paid, spent = draw.parts(1000, 60000), draw.parts(500, 30000), draw.parts(1000, 120000)
    after = start + paid
    end = after - spent
    return _told(
        f"{name} has {money(start)} in an account, pays in {money(paid)}, and then a bill of {money(spent)} is taken "
        "out. What does the account show then, in dollars? A debt is a negative number.",
        end,
        f"After paying in there are {show(start)} + {show(paid)} = {show(after)} dollars.",
        f"After the bill the account shows {show(after)} - {show(spent)} = {show(end)} dollars.",
    )


def ride(draw: Draw) -> Story:
    """Two steps: two legs of a journey on one speed."""
    name, speed = draw.name(), draw.whole(8, 120, 2)
    morning, noon = draw.parts(15, 65, 1), draw.parts(15, 65, 1)
    hours = morning + noon
    way = speed * hours
    return _told(
        f"{name} travels at {speed} kilometres an hour, for {show(morning)} hours in the morning and {show(noon)} hours "
        f"in the afternoon. How many kilometres does {name} travel in all?",
        way,
        f"{name} travels for {show(morning)} + {show(noon)} = {show(hours)} hours.",
        f"That makes {speed} * {show(hours)} = {show(way)} kilometres.",
    )


def recipe(draw: Draw) -> Story:
    """Two steps: how much is still missing."""
    name, each, batches = draw.name(), draw.parts(125, 475, 2, 25), draw.whole(3, 24)
    needed = each * batches
    has = draw.parts(25, int(needed * 100) - 25, 2, 25)
    missing = needed - has
    return _told(
        f"A batch of bread takes {show(each)} cups of flour. {name} wants to bake {batches} batches and has {show(has)} "
        "cups of flour. How many more cups are needed?",
        missing,
        f"The batches take {show(each)} * {batches} = {show(needed)} cups.",
        f"So {show(needed)} - {show(has)} = {show(missing)} cups are missing.",
    )


def mean(draw: Draw) -> Story:
    """Two steps: the mean of three marks below and above zero."""
    town, first, second = draw.of(_TOWNS), draw.whole(-24, 20), draw.whole(-24, 20)
    third = draw.whole(-24, 20)
    third -= (first + second + third) % 3
    total = first + second + third
    average = total / 3
    return _told(
        f"On three mornings it is {first}, {second} and {third} degrees in {town}. What is the average temperature, as "
        "a negative number if it is below zero?",
        average,
        f"The sum is {first} + {_term(second)} + {_term(third)} = {total} degrees.",
        f"The average is {show(total)} / 3 = {show(average)} degrees.",
    )


def garden(draw: Draw) -> Story:
    """Three steps: planted, lost and planted again."""
    flowers, beds, each = draw.of(_FLOWERS), draw.whole(4, 30), draw.whole(8, 48)
    planted = beds * each
    lost, fresh = draw.whole(3, int(planted) // 2), draw.whole(5, 90)
    kept = planted - lost
    total = kept + fresh
    return _told(
        f"A gardener plants {each} {flowers} in each of {beds} beds. In spring {lost} of the {flowers} do not come up, "
        f"and the gardener plants {fresh} new ones. How many {flowers} are there then?",
        total,
        f"The beds hold {each} * {beds} = {planted} {flowers}.",
        f"After the losses there are {planted} - {lost} = {kept} {flowers}.",
        f"With the new ones there are {kept} + {fresh} = {total} {flowers}.",
    )


def wages(draw: Draw) -> Story:
    """Three steps: what remains of some weeks' pay."""
    name, hours, rate, weeks = draw.name(), draw.whole(5, 40), draw.parts(900, 3250, 2, 25), draw.whole(2, 9)
    weekly = hours * rate
    earned = weekly * weeks
    spent = draw.whole(40, int(earned) - 1)
    left = earned - spent
    return _told(
        f"{name} works {hours} hours a week for {money(rate)} an hour. After {weeks} weeks {name} has spent "
        f"{money(spent)} of the pay. How many dollars of it are left?",
        left,
        f"A week brings {hours} * {show(rate)} = {show(weekly)} dollars.",
        f"{weeks} weeks bring {show(weekly)} * {weeks} = {show(earned)} dollars.",
        f"Of that {show(earned)} - {spent} = {show(left)} dollars are left.",
    )


def sale(draw: Draw) -> Story:
    """Three steps: a discount in percent."""
    name, thing, price = draw.name(), draw.of(_THINGS), draw.whole(4, 90)
    percent, count = draw.whole(5, 75, 5), draw.whole(2, 25)
    less = price * percent / 100
    now = price - less
    cost = now * count
    return _told(
        f"A set of {thing} costs {money(price)}. In a sale it is {percent}% cheaper. How many dollars does {name} pay "
        f"for {count} sets in the sale?",
        cost,
        f"The discount is {price} * {percent} / 100 = {show(less)} dollars.",
        f"A set costs {price} - {show(less)} = {show(now)} dollars in the sale.",
        f"{name} pays {show(now)} * {count} = {show(cost)} dollars.",
    )


def quiz(draw: Draw) -> Story:
    """Three steps: a score that may fall below zero."""
    name, right, wrong = draw.name(), draw.whole(2, 40), draw.whole(2, 40)
    plus, minus = draw.whole(2, 12), draw.whole(1, 9)
    won, lost = right * plus, wrong * minus
    score = won - lost
    return _told(
        f"In a quiz every right answer brings {plus} points and every wrong answer costs {minus}. {name} gives {right} "
        f"right and {wrong} wrong answers. What is the score? It may be negative.",
        score,
        f"The right answers bring {right} * {plus} = {won} points.",
        f"The wrong answers cost {wrong} * {minus} = {lost} points.",
        f"The score is {won} - {lost} = {score} points.",
    )


def diver(draw: Draw) -> Story:
    """Three steps: a height above or below the water."""
    name, deck = draw.name(), draw.parts(15, 95, 1)
    dive, rise, sink = draw.parts(100, 450, 1), draw.parts(15, 85, 1), draw.parts(15, 195, 1)
    first = deck - dive
    second = first + rise
    third = second - sink
    return _told(
        f"{name} stands on a deck {show(deck)} metres above the water. From there {name} goes down {show(dive)} metres, "
        f"then up {show(rise)} metres, then down {show(sink)} metres. At what height in metres is {name} now, counting "
        "heights below the water as negative?",
        third,
        f"After the dive the height is {show(deck)} - {show(dive)} = {show(first)} metres.",
        f"Going up makes it {show(first)} + {show(rise)} = {show(second)} metres.",
        f"Going down makes it {show(second)} - {show(sink)} = {show(third)} metres.",
    )


def fence(draw: Draw) -> Story:
    """Three steps: what goes round a rectangle."""
    name, long, wide, price = draw.name(), draw.parts(50, 695, 1), draw.parts(30, 495, 1), draw.whole(3, 60)
    half = long + wide
    around = half * 2
    cost = around * price
    return _told(
        f"{name} puts a fence around a rectangular field of {show(long)} by {show(wide)} metres. A metre of fence costs "
        f"{money(price)}. How many dollars does the fence cost?",
        cost,
        f"Length and width are {show(long)} + {show(wide)} = {show(half)} metres.",
        f"The way around is {show(half)} * 2 = {show(around)} metres.",
        f"The fence costs {show(around)} * {price} = {show(cost)} dollars.",
    )


def trip(draw: Draw) -> Story:
    """Four steps: tickets against a budget, which may not suffice."""
    adults, children = draw.whole(2, 14), draw.whole(5, 60)
    dear, cheap, budget = draw.parts(600, 2450, 2, 50), draw.parts(200, 1250, 2, 50), draw.whole(100, 900, 5)
    first, second = adults * dear, children * cheap
    cost = first + second
    left = budget - cost
    return _told(
        f"A class visits a museum with {adults} adults and {children} children. A ticket costs {money(dear)} for adults "
        f"and {money(cheap)} for children, and the class has {money(budget)}. How many dollars are left after the "
        "tickets? Count what is missing as a negative number.",
        left,
        f"The adults pay {adults} * {show(dear)} = {show(first)} dollars.",
        f"The children pay {children} * {show(cheap)} = {show(second)} dollars.",
        f"All tickets cost {show(first)} + {show(second)} = {show(cost)} dollars.",
        f"Of the budget {budget} - {show(cost)} = {show(left)} dollars are left.",
    )


def savings(draw: Draw) -> Story:
    """Four steps: saved, given, spent and shared evenly."""
    one, other = draw.names()
    weekly, weeks, people, each = draw.whole(3, 45), draw.whole(4, 30), draw.whole(2, 8), draw.whole(6, 95)
    saved, shared = weekly * weeks, people * each
    present = draw.whole(5, 80) + max(Decimal(0), shared - saved)
    total = saved + present
    spent = total - shared
    return _told(
        f"{one} saves {money(weekly)} a week for {weeks} weeks and gets {money(present)} from {other}. {one} spends "
        f"{money(spent)} and shares the rest equally among {people} cousins. How many dollars does each cousin get?",
        each,
        f"{one} saves {weekly} * {weeks} = {saved} dollars.",
        f"With the present that makes {saved} + {present} = {total} dollars.",
        f"After spending there are {total} - {spent} = {shared} dollars.",
        f"Each cousin gets {shared} / {people} = {each} dollars.",
    )


def vans(draw: Draw) -> Story:
    """Four steps: two vans, their ways added and their fuel."""
    one, other = draw.names()
    fast, slow, per = draw.whole(60, 110, 5), draw.whole(30, 58, 2), Decimal(draw.of(("4", "5", "8", "10", "20")))
    long, short = draw.parts(15, 95, 1), draw.parts(15, 95, 1)
    first, second = fast * long, slow * short
    way = first + second
    fuel = way / per
    return _told(
        f"{one} drives a van for {show(long)} hours at {fast} kilometres an hour, {other} drives another for "
        f"{show(short)} hours at {slow}. Both vans go {per} kilometres on a litre of fuel. How many litres do they use "
        "together?",
        fuel,
        f"{one} drives {fast} * {show(long)} = {show(first)} kilometres.",
        f"{other} drives {slow} * {show(short)} = {show(second)} kilometres.",
        f"Together they drive {show(first)} + {show(second)} = {show(way)} kilometres.",
        f"They use {show(way)} / {per} = {show(fuel)} litres.",
    )


STORIES: tuple[Callable[[Draw], Story], ...] = (
    gift, night, stall, share, packing, change, account, ride, recipe, mean, garden, wages, sale, quiz, diver, fence,
    trip, savings, vans,
)  # fmt: skip
"""All stories."""
