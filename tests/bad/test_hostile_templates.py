"""Hostile chat templates: each ends within its time and memory, with a named error, or with the text it should give.

Every template has a process of its own, forked from one that has imported the package and loaded nothing. It loads a tiny
model with that template, renders a chat, and tells by how much its memory grew at most. A process that does not end is
killed long after the two seconds that the engine gives a template (`Limits::template_time`, held by a test of the
engine): a slow machine fails no test.
"""

# ruff: noqa: E501, one line for each template

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests import tiny

MEMORY = 200 << 20  # bytes that loading and rendering may take at most
PATIENCE = 30  # seconds, for two of the engine's and the slowest machine
CODE = """
import json, os, resource, select, signal, sys
import densecore

def memory(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

def rendered(folder, messages, generates):
    try:
        model = densecore.Model.load(folder, backend=densecore.CPU(threads=1), cache_bytes=1 << 20)
        if generates:
            model.generate(messages, max_tokens=1)
        text = model.apply_chat_template(messages)
        return ["text", text[:200], len(text)]
    except densecore.errors.DenseCoreError as error:
        return [type(error).__name__, str(error), 0]

patience = float(sys.argv[1])
for line in sys.stdin:
    given = json.loads(line)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        if sys.platform == "linux":
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew
        before = memory("VmRSS") if sys.platform == "linux" else 0
        result = rendered(*given)
        grown = memory("VmHWM") - before if sys.platform == "linux" else 0
        os.write(writer, json.dumps([*result, grown]).encode())
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], patience)
    if not ready:
        os.kill(child, signal.SIGKILL)
    answer = os.read(reader, 1 << 20).decode() if ready else ""
    os.close(reader)
    _, status = os.waitpid(child, 0)
    print(answer or json.dumps(["hangs" if not ready else f"died: {status}", "", 0, 0]), flush=True)
"""

USER = {"role": "user", "content": "Hi"}
LONG = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n} " + "word " * 40} for n in range(2_000)]
BIG = [{"role": "user", "content": "ab \n" * 400_000}]


def doubling(body: str, times: int = 60) -> str:
    """A value that becomes another one again and again."""
    start = "{% set ns = namespace(s='aaaaaaaa', l=[1, 2, 3, 4], d={'a': 1}) %}"
    return start + "{% for i in range(" + str(times) + ") %}{% set ns.s = " + body + " %}{% endfor %}{{ ns.s }}"


def for_ever(body: str, before: str = "") -> str:
    return f"{before}{{% for a in range(99999) %}}{{% for b in range(99999) %}}{body}{{% endfor %}}{{% endfor %}}"


MACRO = "{% macro f(x) %}BODY{% endmacro %}{{ f('aaaa') }}"
# Those that must be refused.
ENDED: dict[str, str] = {
    # The examples of the review.
    "a list of large texts in capitals": "{{ (['a' * 4000000] * 500) | map('upper') | list }}",
    "filters with small results": for_ever("{% set x = s | length %}", "{% set s = 'a' * 4000000 %}"),
    "no turns of a cycle": "{% for a in messages %}{{ loop.cycle() }}{% endfor %}",
    # While it compiles.
    "constants worked out at every level": "{{ '" + "a" * 30_000 + "'" + "+''" * 3_000 + "+x" * 4_000 + " }}",
    "empty lists worked out at every level": "{{ []" + "+[]" * 2_600 + "+x" * 2_600 + " }}",
    "numbers worked out at every level": "{{ 1" + "+1" * 4_000 + "~x" * 4_000 + " }}",
    "powers of powers": "{{ 9" + " ** 9" * 8_000 + " }}",
    "brackets": "{{ " + "(" * 8_000 + "1" + ")" * 8_000 + " }}",
    "lists within lists": "{{ " + "[" * 8_000 + "]" * 8_000 + " }}",
    "conditions within each other": "{% if a %}" * 2_500 + "{% endif %}" * 2_500,
    "otherwise": "{% if a %}" + "{% elif b %}" * 5_000 + "{% endif %}",
    "macros within each other": "".join(f"{{% macro f{n}() %}}" for n in range(1_200)) + "{% endmacro %}" * 1_200,
    "sources over the cap": "a" * 100_000,
    "a word that never ends": "{{ '" + "a" * 60_000,
    "many arguments": "{{ 'a' | map(" + ", ".join(["'map'"] * 8_000) + ") | list }}",
    # Time.
    "loops": for_ever(""),
    "loops that write": for_ever("a"),
    "title": for_ever("{% set x = s.title() %}", "{% set s = ' a' * 2000000 %}"),
    "splitting": for_ever("{% set x = s.split() %}", "{% set s = ' a' * 60000 %}"),
    "splitting from the right": for_ever("{% set x = s.rsplit(none, 60000) %}", "{% set s = ' a' * 60000 %}"),
    "counting": for_ever("{% set x = s.count('è') %}", "{% set s = 'é' * 2000000 %}"),
    "counting nothing": for_ever("{% set x = s.count('') %}", "{% set s = 'a' * 4000000 %}"),
    "replacing nothing": for_ever("{% set x = s.replace('', 'b') %}", "{% set s = 'a' * 1000000 %}"),
    "finding what is not there": for_ever("{% set x = s.find('b' ~ s) %}", "{% set s = 'a' * 2000000 %}"),
    "sorting": for_ever("{% set x = l | sort %}", "{% set l = range(131000) | list %}"),
    "sorting by a long path": "{{ range(99999) | sort(attribute='" + "x." * 25_000 + "x') | list }}",
    "unique": for_ever("{% set x = l | unique | list %}", "{% set l = range(131000) | list %}"),
    "numbers that share a hash": for_ever("{% set x = l | map('float') | unique | list %}", "{% set l = range(4611686018427387904 - 100000, 4611686018427387904) | list %}"),
    "sums": for_ever("{% set x = l | sum %}", "{% set l = range(131000) | list %}"),
    "slices": for_ever("{% set x = l[::-1] %}", "{% set l = range(131000) | list %}"),
    "letters from behind": for_ever("{% set x = s[-3999999] %}", "{% set s = 'a' * 4000000 %}"),
    "comparing lists": for_ever("{% set x = l == m %}", "{% set l = range(131000) | list %}{% set m = range(131000) | list %}"),
    "looking in a list": for_ever("{% set x = 7 in l %}", "{% set l = range(8, 131000) | list %}"),
    "selecting": for_ever("{% set x = l | select('odd') | list %}", "{% set l = range(131000) | list %}"),
    "selecting by an attribute": for_ever("{% set x = (messages * 20000) | selectattr('role', 'eq', 'user') | list %}"),
    "grouping, which is not there": "{{ messages | groupby('role') }}",
    "writing JSON": for_ever("{% set x = l | tojson %}", "{% set l = range(131000) | list %}"),
    "trees": "{% macro f(x) %}{% if x %}{{ f(x - 1) }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro that calls itself": MACRO.replace("BODY", "{{ f(x) }}"),
    "a macro that doubles": MACRO.replace("BODY", "{{ f(x ~ x) }}"),
    "a macro that calls itself twice": MACRO.replace("BODY", "{{ f(x) }}{{ f(x) }}"),
    "macros that call each other": "{% macro a() %}{{ b() }}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "callers of callers": "{% macro f() %}{{ caller() }}{% call f() %}{{ x }}{% endcall %}{% endmacro %}{% call f() %}y{% endcall %}",
    "a macro of many macros": for_ever("{{ g() }}", "{% for i in range(4000) %}{% macro f() %}{% endmacro %}{% endfor %}{% macro g() %}{{ messages }}{% endmacro %}"),
    "a macro with many parameters": "{% macro f(" + ",".join(f"a{n}" for n in range(5_000)) + ") %}{{ f() }}{% endmacro %}{{ f() }}",
    "more macros than there may be": for_ever("{% macro f() %}{% endmacro %}"),
    "a loop within itself": "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "a loop with a condition": "{% for a in range(99999) %}{% for b in range(131000) if b % 2 %}{% endfor %}{% endfor %}",
    "letters of a long text": "{% for c in 'a' * 4000000 if true %}{{ c }}{% endfor %}",
    # Memory.
    "repeating": "{{ 'a' * 10 ** 12 }}",
    "repeating a list": "{{ [1] * 10 ** 12 }}",
    "repeating large texts": "{{ ['a' * 1000000] * 100000 }}",
    "ranges": "{{ range(10 ** 15) }}",
    "ranges of ranges": "{{ [range(99999) | list] * 1000 }}",
    "widths": "{{ 'a'.ljust(10 ** 15) }}",
    "indenting": "{{ ('\n' * 100000) | indent(10 ** 9) }}",
    "indenting by a text": "{{ ('\na' * 100000) | indent('a' * 100000) }}",
    "JSON with wide indents": "{% set ns = namespace(l=[1]) %}{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson(indent=65536) }}",
    "JSON with long separators": "{% set s = 'a' * 4000000 %}{{ range(9999) | list | tojson(separators=(s, s)) }}",
    "separators of a long text": "{% set s = 'a' * 4000000 %}{{ [1] | tojson(separators=s) }}",
    "joining": "{{ range(131000) | join('a' * 4000000) }}",
    "replacing": "{{ ('a' * 2000000) | replace('a', 'b' * 2000000) }}",
    "formats": "{{ '%099999999999d' | format(1) }}",
    "formats of Python": "{{ '{:>99999999999}'.format(1) }}",
    "formats with an operator": "{{ '%099999999999d' % 1 }}",
    "batches": "{{ range(131000) | batch(1, 'a' * 1000000) | list }}",
    "unpacking": "{{ dict(**messages[0]) }}{{ range(*[1, 10 ** 12]) }}",
    "text that doubles": doubling("ns.s + ns.s"),
    "text that joins itself": doubling("ns.s | join(ns.s)"),
    "text that fills itself": doubling("[ns.s, ns.s] | join(ns.s)"),
    "text in lists": doubling("[ns.s, ns.s]"),
    "text in maps": doubling("{'a': ns.s, 'b': ns.s}"),
    "text as JSON of itself": doubling("[ns.s, ns.s] | tojson"),
    "text written as a list": doubling("[ns.s, ns.s] | string"),
    "lists that double": doubling("(ns.s | list) + (ns.s | list)"),
    "ever deeper": doubling("[ns.s]", 200),
    "a namespace within itself": "{% set ns = namespace() %}{% set ns.s = ns %}{{ ns }}",
    "a namespace in a list": "{% set ns = namespace() %}{% set ns.s = [ns] %}{{ ns.s }}",
    "blocks that double": "{% set x = 'aaaaaaaa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40 + "{{ x }}",
    "filters of blocks": "{% filter indent(4000) %}" * 40 + "{{ 'a\n' * 999 }}" + "{% endfilter %}" * 40,
    "many small texts": "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = ns.l + ['a' * 30] %}{% endfor %}{{ ns.l }}",
    "many small maps": "{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = ns.l + [{'a': i, 'b': {'c': [i] * 99}}] * 99 %}{% endfor %}{{ ns.l | length }}",
    "letters as a list": "{% set ns = namespace(l=[]) %}{% for i in range(99) %}{% set ns.l = ns.l + [('abc' * 40000) | list] %}{% endfor %}{{ ns.l }}",
    "what is raised": "{{ raise_exception('a' * 4000000) }}",
    "names of variables that macros keep": "{% for i in range(4000) %}{% with %}{% macro f() %}{{ "
    + "n" * 60_000
    + " }}{% endmacro %}{% endwith %}{% endfor %}",
    "names of a map": "{% set ns = namespace(l=[]) %}{% for i in range(4000) %}{% set ns.l = ns.l + [dict("
    + "n" * 60_000
    + "=i)] %}{% endfor %}",
    "keys that equal nothing": "{% set big = 1e308 * 10 %}{{ dict([[big - big, 1]] * 32000) | length }}",
    "no order": "{{ ([1, 'a', none, 2.5, [1]] * 99) | sort }}",
    # What is not there.
    "other files": "{% include 'x' %}",
    "Python's own": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attributes by name": "{{ messages | attr('__class__') }}",
    "functions as text": "{{ namespace }}{{ range }}",
}  # fmt: skip
# Those that are only slow, or strange, elsewhere: text and length.
HARMLESS: dict[str, tuple[str, str]] = {
    "counting an empty text": ("{{ 'a'.count('') }}", "2"),
    "replacing an empty text": ("{{ 'ab'.replace('', '-') }}{{ 'ab' | replace('', '-', 2) }}", "-a-b--a-b"),
    "finding an empty text": ("{{ 'ab'.find('') }}{{ 'ab'.rfind('') }}{{ '' in 'ab' }}", "02True"),
    "stripping nothing": ("{{ ' a '.strip('') }}|{{ ''.strip() }}", " a |"),
    "ranges that go nowhere": ("{{ range(5, 0) | list }}{{ range(0, 5, -1) | list }}", "[][]"),
    "slices beyond the ends": ("{{ 'abc'[-99999999999:99999999999] }}{{ [1][5:-5] }}", "abc[]"),
    "texts repeated less than once": ("{{ 'a' * -5 }}{{ [1] * 0 }}", "[]"),
    "nothing": ("{% for m in [] %}{{ loop.cycle() }}{% endfor %}", ""),
    "filters of a small text": ("{{ 'a' | map('map', 'map', 'map', 'upper') | list }}", "[[[['A']]]]"),
    "an order of numbers that are hard to tell apart": (
        "{% set big = 1e308 * 10 %}{{ ([big - big, 9007199254740993, 9007199254740992.0, 9007199254740994, 9007199254740992, true] * 99) | sort | first }}",
        "True",
    ),
    "an order of lists": ("{{ {'b': 1, 'a': [2]}.items() | sort }}{{ [[1, 'b'], [1, 'a'], [0.5]] | sort }}", "[['a', [2]], ['b', 1]][[0.5], [1, 'a'], [1, 'b']]"),
    "a map with many keys": ("{% set m = {" + ",".join(f"'k{n}': 1" for n in range(3_000)) + "} %}{% for i in range(9999) %}{% if 'z' in m %}a{% endif %}{% endfor %}{{ m | length }}", "3000"),
}  # fmt: skip
CHATS: dict[str, tuple[str, list[dict[str, str]], bool]] = {
    "every message beside every other": ("{% for a in messages %}{% for b in messages %}{{ a.content == b.content }}{% endfor %}{% endfor %}", LONG, False),
    "every message in all that came before": ("{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + m.content %}{% endfor %}{{ ns.s }}", LONG, False),
    "all messages as JSON for each": ("{% for m in messages %}{{ messages[::-1] | tojson | length }}{% endfor %}", LONG, False),
    "a long chat, written once": ("{% for m in messages %}{{ m.content }}{% endfor %}", LONG, True),
    "a large content in capitals, again and again": ("{% for i in range(9999) %}{{ messages[0].content.upper().lower().split() | length }}{% endfor %}", BIG, False),
    "a large content, indented": ("{{ messages[0].content | indent(99) }}", BIG, False),
    "a large content, written once": ("{{ messages[0].content }}", BIG, True),
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What became of each: the error's name or "text", what it says, the text's length, and how much memory grew."""
    base = tiny.make_tiny("qwen2", tmp_path_factory.mktemp("base"), seed=2, layers=1, context=64)
    # As a prompt first, and as text.
    sources = {name: (source, [USER], True) for name, source in ENDED.items()}
    sources |= {name: (source, [USER], False) for name, (source, _) in HARMLESS.items()}
    sources |= {name: (source, messages, False) for name, (source, messages, _) in CHATS.items()}
    facts = json.loads((base / "tokenizer_config.json").read_text())
    lines = []
    for source, messages, generates in sources.values():
        folder = tmp_path_factory.mktemp("hostile")
        for path in base.iterdir():
            if path.name != "tokenizer_config.json":
                (folder / path.name).symlink_to(path)
        (folder / "tokenizer_config.json").write_text(json.dumps(facts | {"chat_template": source}))
        lines.append(json.dumps([str(folder), messages, generates]))
    command = [sys.executable, "-c", CODE, str(PATIENCE)]
    ran = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, timeout=PATIENCE * len(lines), check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    return dict(zip(sources, answers, strict=True))


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


@pytest.mark.parametrize("name", list(ENDED))
def test_ends_with_a_named_error(results: dict[str, list[Any]], name: str) -> None:
    kind, message, _, grown = results[name]
    assert kind in ("TemplateError", "LimitError"), (kind, message)
    assert len(message) < 2_000
    assert "engine failed" not in message
    assert grown < MEMORY, f"{grown >> 20} MiB"


@pytest.mark.parametrize("name", list(HARMLESS))
def test_gives_what_it_should(results: dict[str, list[Any]], name: str) -> None:
    kind, text, _, grown = results[name]
    assert (kind, text) == ("text", HARMLESS[name][1])
    assert grown < MEMORY, f"{grown >> 20} MiB"


@pytest.mark.parametrize("name", list(CHATS))
def test_long_chats(results: dict[str, list[Any]], name: str) -> None:
    _, messages, renders = CHATS[name]
    kind, message, length, grown = results[name]
    if renders:
        assert (kind, length) == ("text", sum(len(m["content"]) for m in messages))
    else:
        assert kind in ("TemplateError", "LimitError"), (kind, message)
    assert grown < MEMORY, f"{grown >> 20} MiB"
